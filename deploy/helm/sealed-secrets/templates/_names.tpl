{{/* Names and namespaces. After `helm upgrade --reuse-values`, values that the old release did not have are missing:
read new groups of values in parentheses. */}}

{{- define "sealed-secrets.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sealed-secrets.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $release | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sealed-secrets.namespace" -}}
{{ .Values.namespace | default .Release.Namespace }}
{{- end }}

{{- define "sealed-secrets.account" -}}
{{- $own := ternary (include "sealed-secrets.fullname" .) "default" .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default $own }}
{{- end }}

{{- define "sealed-secrets.certificateConfigMap" -}}
{{ (.Values.certificateConfigMap).name | default (printf "%s-certificate" (include "sealed-secrets.fullname" .)) }}
{{- end }}

{{- define "sealed-secrets.replicas" -}}
{{ kindIs "invalid" .Values.replicas | ternary 1 .Values.replicas }}
{{- end }}

{{- define "sealed-secrets.image" -}}
{{- $image := .Values.image }}
{{- $name := printf "%s/%s" $image.registry $image.repository | trimPrefix "/" }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (toString ($image.tag | default .Chart.AppVersion)) }}
{{- end }}
{{- end }}

{{/* The Kubernetes version: kubeVersion if set, else the cluster's. */}}
{{- define "sealed-secrets.kubeVersion" -}}
{{ .Values.kubeVersion | default (.Values.global).kubeVersion | default .Capabilities.KubeVersion.Version }}
{{- end }}

{{- define "sealed-secrets.selector" -}}
app.kubernetes.io/name: {{ include "sealed-secrets.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* A value whose templates are rendered, as YAML: (list VALUE CONTEXT). */}}
{{- define "sealed-secrets.rendered" -}}
{{- $value := index . 0 }}
{{- tpl (kindIs "string" $value | ternary $value (toYaml $value)) (index . 1) }}
{{- end }}

{{/* A number or string as a string, without the exponent that Helm gives large numbers: VALUE. */}}
{{- define "sealed-secrets.text" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* A port of the container; empty and 0 mean the default, as in Bitnami's chart: (list NAME CONTEXT). */}}
{{- define "sealed-secrets.containerPort" -}}
{{- $name := index . 0 }}
{{- get (index . 1).Values.containerPorts $name | default (get (dict "http" 8080 "metrics" 8081) $name) }}
{{- end }}

{{/* True unless the value is the empty string; 0 and false count as set: VALUE. */}}
{{- define "sealed-secrets.isSet" -}}
{{- if not (or (kindIs "invalid" .) (eq (toString .) "")) }}yes{{ end }}
{{- end }}

{{/* The metadata of an object: (dict "context" $ "name" NAME "labels" LIST "annotations" LIST), with
"namespace" if it differs from the chart's; "" for none. Later maps override earlier ones. */}}
{{- define "sealed-secrets.metadata" -}}
{{- $ := .context }}
{{- $labels := dict
  "app.kubernetes.io/name" (include "sealed-secrets.name" $)
  "app.kubernetes.io/instance" $.Release.Name
  "app.kubernetes.io/managed-by" $.Release.Service
  "app.kubernetes.io/part-of" "sealed-secrets"
  "app.kubernetes.io/version" (toString $.Chart.AppVersion)
  "helm.sh/chart" (printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- range concat (list $.Values.commonLabels) (.labels | default list) }}
{{- $labels = mergeOverwrite $labels (include "sealed-secrets.rendered" (list (. | default dict) $) | fromYaml) }}
{{- end }}
{{- $annotations := dict }}
{{- range concat (list $.Values.commonAnnotations) (.annotations | default list) }}
{{- $annotations = mergeOverwrite $annotations (include "sealed-secrets.rendered" (list (. | default dict) $) | fromYaml) }}
{{- end }}
{{- $metadata := dict "name" .name "labels" $labels }}
{{- with hasKey . "namespace" | ternary .namespace (include "sealed-secrets.namespace" $) }}
{{- $_ := set $metadata "namespace" . }}
{{- end }}
{{- with $annotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- toYaml $metadata }}
{{- end }}
