{{/* Names and permissions of `seal restart`, a Deployment of its own. After `helm upgrade --reuse-values` the group
`restart` is missing: read it in parentheses. */}}

{{- define "sealed-secrets.restart.fullname" -}}
{{ include "sealed-secrets.fullname" . | trunc 55 | trimSuffix "-" }}-restart
{{- end }}

{{/* Other labels than the controller's, so that the controller's Service does not select these Pods. */}}
{{- define "sealed-secrets.restart.selector" -}}
app.kubernetes.io/name: {{ include "sealed-secrets.name" . | trunc 55 | trimSuffix "-" }}-restart
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sealed-secrets.restart.account" -}}
{{ (.Values.restart).serviceAccountName | default (include "sealed-secrets.restart.fullname" .) }}
{{- end }}

{{/* The namespaces that are watched, as JSON; empty for all. */}}
{{- define "sealed-secrets.restart.namespaces" -}}
{{- $own := prepend .Values.additionalNamespaces (include "sealed-secrets.namespace" .) | uniq }}
{{- and .Values.rbac.namespacedRoles (not .Values.rbac.clusterRole) | ternary $own list | toJson }}
{{- end }}

{{/* The rules for every namespace with workloads. A ValidatingAdmissionPolicy limits what `patch` can change. */}}
{{- define "sealed-secrets.restart.rules" -}}
- apiGroups: [bitnami.com]
  resources: [sealedsecrets]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [list, watch, patch]
- apiGroups: [argoproj.io]
  resources: [rollouts]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "sealed-secrets.restart.leader" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [sealed-secrets-restart]
  verbs: [get, update]
{{- end }}

{{/* A policy that limits what the account may change, and its binding:
(dict "context" $ "name" NAME "rules" RULES "variables" VARIABLES "validations" VALIDATIONS). */}}
{{- define "sealed-secrets.restart.policy" -}}
{{- $ := .context }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  {{- include "sealed-secrets.metadata" (dict "context" $ "namespace" "" "name" .name) | nindent 2 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: {{- .rules | trim | nindent 6 }}
  matchConditions:
    - name: is-restart
      expression: request.userInfo.username == "system:serviceaccount:{{ include "sealed-secrets.namespace" $ }}:{{ include "sealed-secrets.restart.account" $ }}"
  validations: {{- .validations | trim | nindent 4 }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  {{- include "sealed-secrets.metadata" (dict "context" $ "namespace" "" "name" .name) | nindent 2 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}

{{/* A CEL expression: two maps are equal except for some keys: (list NEW OLD KEYS). */}}
{{- define "sealed-secrets.restart.same" -}}
{{- $new := index . 0 }}
{{- $old := index . 1 }}
{{- $keys := index . 2 | toJson -}}
({{ $new }}.all(k, k in {{ $keys }} || (k in {{ $old }} && {{ $new }}[k] == {{ $old }}[k])) && {{ $old }}.all(k, k in {{ $keys }} || k in {{ $new }}))
{{- end }}

{{/* A CEL expression: the annotations in two metadata are equal except for one: (list NEW OLD KEY). */}}
{{- define "sealed-secrets.restart.sameAnnotations" -}}
{{- $new := printf "%s[?'annotations'].orValue({})" (index . 0) }}
{{- $old := printf "%s[?'annotations'].orValue({})" (index . 1) }}
{{- include "sealed-secrets.restart.same" (list $new $old (list (index . 2))) }}
{{- end }}

{{/* A CEL expression: an annotation in two metadata is equal, or its new value matches a pattern: (list NEW OLD KEY PATTERN). */}}
{{- define "sealed-secrets.restart.valid" -}}
{{- $value := printf "[?'annotations'][?'%s'].orValue('')" (index . 2) -}}
{{ index . 0 }}{{ $value }} == {{ index . 1 }}{{ $value }} || {{ index . 0 }}{{ $value }}.matches('{{ index . 3 }}')
{{- end }}

{{/* A CEL expression: `managedFields` still has the entries of other clients. Kubernetes itself changes an entry that owns
the annotation of seal restart, which PATH leads to, and joins the oldest of more than ten entries: PATH. */}}
{{- define "sealed-secrets.restart.sameManagers" -}}
oldObject.metadata[?'managedFields'].orValue([]).all(o,
has(o.manager) && o.manager == 'seal-restart' || o.operation == 'Update' && oldObject.metadata.managedFields.size() >= 10 ||
has(o.fieldsV1) && o.fieldsV1{{ . }}.hasValue() || object.metadata[?'managedFields'].orValue([]).exists(n, n == o))
{{- end }}

{{- define "sealed-secrets.restart.workloadValidations" -}}
{{- $template := "[?'metadata'].orValue({})" }}
- expression: >-
    {{ include "sealed-secrets.restart.same" (list "object.metadata" "oldObject.metadata" (list "annotations" "generation" "managedFields" "resourceVersion")) }}
  message: seal restart may not change the metadata of workloads
# Kubernetes counts the templates of a DaemonSet in an annotation, whatever the client writes into it.
- expression: >-
    request.resource.resource == 'daemonsets' ?
    {{ include "sealed-secrets.restart.sameAnnotations" (list "object.metadata" "oldObject.metadata" "deprecated.daemonset.template.generation") }} :
    object.metadata[?'annotations'].orValue({}) == oldObject.metadata[?'annotations'].orValue({})
  message: seal restart may not change the annotations of workloads
- expression: >-
    {{ include "sealed-secrets.restart.sameManagers" "[?'f:spec'][?'f:template'][?'f:metadata'][?'f:annotations'][?'f:sealedsecrets.bitnami.com/restarted-for']" | nindent 4 | trim }}
  message: seal restart may not change the managers of fields
- expression: >-
    {{ include "sealed-secrets.restart.same" (list "object.spec" "oldObject.spec" (list "template" "restartAt")) }}
  message: seal restart may not change the spec of workloads
- expression: >-
    !has(oldObject.spec.template) && !has(object.spec.template) || has(oldObject.spec.template) && has(object.spec.template) &&
    {{ include "sealed-secrets.restart.same" (list "object.spec.template" "oldObject.spec.template" (list "metadata")) }}
  message: seal restart may not change Pod templates
- expression: >-
    !has(object.spec.template) ||
    {{ include "sealed-secrets.restart.same" (list (print "object.spec.template" $template) (print "oldObject.spec.template" $template) (list "annotations")) }}
  message: seal restart may not change the labels of Pod templates
- expression: >-
    !has(object.spec.template) ||
    {{ include "sealed-secrets.restart.sameAnnotations" (list (print "object.spec.template" $template) (print "oldObject.spec.template" $template) "sealedsecrets.bitnami.com/restarted-for") }}
  message: seal restart may change only its annotation
- expression: >-
    !has(object.spec.template) ||
    {{ include "sealed-secrets.restart.valid" (list (print "object.spec.template" $template) (print "oldObject.spec.template" $template) "sealedsecrets.bitnami.com/restarted-for" "^[0-9a-f]{32}$") }}
  message: seal restart may write only a digest into its annotation
{{- end }}

{{- define "sealed-secrets.restart.podValidations" -}}
- expression: >-
    {{ include "sealed-secrets.restart.same" (list "object.metadata" "oldObject.metadata" (list "annotations" "generation" "managedFields" "resourceVersion")) }}
  message: seal restart may not change the metadata of Pods
- expression: >-
    {{ include "sealed-secrets.restart.sameAnnotations" (list "object.metadata" "oldObject.metadata" "sealedsecrets.bitnami.com/refreshed-for") }}
  message: seal restart may change only its annotation
- expression: >-
    {{ include "sealed-secrets.restart.valid" (list "object.metadata" "oldObject.metadata" "sealedsecrets.bitnami.com/refreshed-for" "^[A-Za-z0-9_-]{22}(,[A-Za-z0-9_-]{22}){0,15}$") }}
  message: seal restart may write only versions into its annotation
- expression: >-
    {{ include "sealed-secrets.restart.sameManagers" "[?'f:metadata'][?'f:annotations'][?'f:sealedsecrets.bitnami.com/refreshed-for']" | nindent 4 | trim }}
  message: seal restart may not change the managers of fields
- expression: object.spec == oldObject.spec
  message: seal restart may not change the spec of Pods
{{- end }}

{{/* RBAC cannot limit the name of a created object. */}}
{{- define "sealed-secrets.restart.leaseValidations" -}}
- expression: object.metadata.name == 'sealed-secrets-restart'
  message: seal restart may create only its own Lease
{{- end }}
