{{/* Names of `seal-deliver node`, a DaemonSet of its own. After `helm upgrade --reuse-values` the group `csi` is missing: read it in
parentheses. */}}

{{- define "sealed-secrets.csi.fullname" -}}
{{ include "sealed-secrets.fullname" . | trunc 59 | trimSuffix "-" }}-csi
{{- end }}

{{/* Other labels than the controller's, so that the controller's Service does not select these Pods. */}}
{{- define "sealed-secrets.csi.selector" -}}
app.kubernetes.io/name: {{ include "sealed-secrets.name" . | trunc 59 | trimSuffix "-" }}-csi
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
