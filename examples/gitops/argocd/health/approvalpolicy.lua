-- Health of an ApprovalPolicy. Argo CD has no string library in here.
local health = {
  status = "Progressing",
  message = "Countersign has not looked at this version of it yet. If that stays so, see whether its operator runs",
}
local status = obj.status or {}
-- What is said of an older generation says nothing of this one.
if status.observedGeneration ~= obj.metadata.generation then
  return health
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    return { status = "Degraded", message = condition.message }
  end
  if condition.type == "Ready" and condition.status == "True" then
    health = { status = "Healthy", message = condition.message }
  elseif condition.type == "Ready" and condition.status == "False" then
    health = { status = "Degraded", message = condition.message }
  end
end
return health
