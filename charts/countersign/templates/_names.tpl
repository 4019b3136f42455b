{{/* Labels of everything. */}}
{{- define "countersign.labels" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What its Pods are found by. It must never change: a Deployment keeps it. */}}
{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/component: operator
{{- end }}

{{- define "countersign.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What holds Jobs and Pods: `policy` or `webhook`. */}}
{{- define "countersign.hold" -}}
{{- if ne .Values.hold "auto" -}}
{{ .Values.hold }}
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
policy
{{- else -}}
webhook
{{- end }}
{{- end }}

{{/* Secret that the operators serve admission under. */}}
{{- define "countersign.certificate" -}}
{{ if .Values.certificate.certManager.enabled }}countersign-admission-certificate-provided{{ else }}countersign-admission-certificate{{ end }}
{{- end }}

{{/* The manifests of a file under files/, for the namespace of the release, with our labels.
     Takes (list ROOT FILE KEPT): what is kept stays when the release is uninstalled. */}}
{{- define "countersign.manifests" -}}
{{- $root := index . 0 }}
{{- $kept := index . 2 }}
{{- $labels := include "countersign.labels" $root | fromYaml }}
{{- $value := printf ": %s\n" ($root.Release.Namespace | quote) }}
{{- $text := $root.Files.Get (index . 1) | replace ": countersign-system\n" $value | replace "countersign-system" $root.Release.Namespace }}
{{- range $document := splitList "\n---\n" $text }}
{{- $object := fromYaml $document }}
{{- $_ := set $object.metadata "labels" (merge dict $labels ($object.metadata.labels | default dict)) }}
{{- if $kept }}
{{- $_ := set $object.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") ($object.metadata.annotations | default dict)) }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
