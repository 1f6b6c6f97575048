{{/* The controller's permissions. deploy/docs/permissions.md documents why each verb is needed, and a test removes each in
turn. */}}

{{/* The rules for every namespace whose SealedSecrets the controller unseals. */}}
{{- define "sealed-secrets.unsealer" -}}
- apiGroups: [bitnami.com]
  resources: [sealedsecrets]
  verbs: [get, list, watch]
- apiGroups: [bitnami.com]
  resources: [sealedsecrets/status]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update{{ if or .Values.oldGCBehavior (.Values.authorizedEndpoints).enabled }}, delete{{ end }}]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- if (.Values.previousValues).watchPods }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
{{- end }}

{{/* The rules for keys, in the controller's own namespace. */}}
{{- define "sealed-secrets.keyAdmin" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ .Values.secretName }}, {{ .Values.secretName }}-content-versions]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch, create]
{{- end }}

{{- define "sealed-secrets.leader" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ (.Values.leaderElection).leaseName | default "sealed-secrets-controller" }}]
  verbs: [get, update]
{{- end }}

{{- define "sealed-secrets.certificate" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [{{ include "sealed-secrets.certificateConfigMap" . }}]
  verbs: [get, update]
{{- end }}

{{- define "sealed-secrets.serviceProxier" -}}
{{- $service := include "sealed-secrets.fullname" . }}
- apiGroups: [""]
  resources: [services]
  resourceNames: [{{ $service }}]
  verbs: [get]
- apiGroups: [""]
  resources: [services/proxy]
  resourceNames: [{{ $service }}, "http:{{ $service }}:", "http:{{ $service }}:http"]
  verbs: [get, create]
{{- end }}

{{/* A role if there are rules, and its binding if the binding has a name:
(dict "context" $ "role" NAME "rules" RULES "binding" NAME), with "namespace" if it differs from the chart's
("" for a cluster role), "subjects" if not the controller's service account. */}}
{{- define "sealed-secrets.grant" -}}
{{- $ := .context }}
{{- $namespace := hasKey . "namespace" | ternary .namespace (include "sealed-secrets.namespace" $) }}
{{- $kind := ternary "Role" "ClusterRole" (ne $namespace "") }}
{{- $metadata := dict "context" $ "namespace" $namespace "labels" (list $.Values.rbac.labels) }}
{{- if .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  {{- include "sealed-secrets.metadata" (set $metadata "name" .role) | nindent 2 }}
rules:
  {{- .rules | trim | nindent 2 }}
{{- end }}
{{- if .binding }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  {{- include "sealed-secrets.metadata" (set $metadata "name" .binding) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ .role }}
subjects:
  {{- if hasKey . "subjects" }}
  {{- .subjects | trim | default "[]" | nindent 2 }}
  {{- else }}
  - kind: ServiceAccount
    name: {{ include "sealed-secrets.account" $ }}
    namespace: {{ include "sealed-secrets.namespace" $ }}
  {{- end }}
{{- end }}
{{- end }}
