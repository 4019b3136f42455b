-- Health of an ApprovalRequest. Argo CD has no string library in here.
local state = (obj.status or {}).state
if state == nil then
  return {
    status = "Progressing",
    message = "Countersign has not looked at it yet. If that stays so, see whether its operator runs",
  }
end
-- To wait for people is no failure, and nothing that goes on by itself.
local known = {
  Pending = { "Suspended", "" },
  Approved = { "Suspended", "" },
  Released = { "Healthy", "" },
  Denied = { "Degraded", ". It is final for its Job: ask anew with another" },
  Expired = { "Degraded", ". Ask anew with another request" },
  Cancelled = { "Degraded", ". Ask anew with another request" },
}
local judged = known[state]
if judged == nil then
  return { status = "Unknown", message = state .. ": this health check is older than Countersign. Take the one of its version" }
end
local message = obj.status.message
if message == nil or message == "" then
  message = "nothing more is said"
end
return { status = judged[1], message = state .. ": " .. message .. judged[2] }
