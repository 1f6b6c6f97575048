{{/* The controller's arguments. Only changed values add a flag, and flags that Bitnami's controller does not support come
only from values that Bitnami's chart does not have: a release upgraded with Bitnami's image and values keeps
working. */}}

{{- define "sealed-secrets.arguments" -}}
{{- $v := .Values }}
{{- $ownAlone := and $v.rbac.namespacedRoles (not $v.rbac.clusterRole) (not $v.additionalNamespaces) }}
{{- $args := list }}
{{- range list
  (list "--update-status" $v.updateStatus true)
  (list "--skip-recreate" $v.skipRecreate false)
  (list "--log-info-stdout" $v.logInfoStdout true)
  (list "--watch-for-secrets" $v.watchForSecrets false)
  (list "--correct-drift" $v.correctDrift true)
  (list "--refuse-random-templates" $v.refuseRandomTemplates false)
  (list "--require-backup" $v.requireBackup false)
  (list "--unsealed-events" $v.unsealedEvents true)
  (list "--old-gc-behavior" $v.oldGCBehavior false)
  (list "--leader-elect" ($v.leaderElection).enabled true)
  (list "--metrics-omit-secret-labels" $v.metrics.omitSecretLabels false)
  (list "--plain-certificate-only" ($v.authorizedEndpoints).plainCertificateOnly false)
  (list "--all-namespaces" (not $ownAlone) true)
}}
{{- $value := index . 1 }}
{{- if and (kindIs "bool" $value) (ne $value (index . 2)) }}
{{- $args = append $args (printf "%s=%t" (index . 0) $value) }}
{{- end }}
{{- end }}
{{- $texts := list
  (list "--key-prefix" $v.secretName)
  (list "--key-renew-period" $v.keyrenewperiod)
  (list "--key-ttl" $v.keyttl)
  (list "--key-cutoff-time" $v.keycutofftime)
  (list "--rate-limit" $v.rateLimit)
  (list "--rate-limit-burst" $v.rateLimitBurst)
  (list "--additional-namespaces" (join "," $v.additionalNamespaces))
  (list "--privatekey-annotations" (include "sealed-secrets.pairs" (list "privateKeyAnnotations" $v.privateKeyAnnotations)))
  (list "--privatekey-labels" (include "sealed-secrets.pairs" (list "privateKeyLabels" $v.privateKeyLabels)))
  (list "--log-level" $v.logLevel)
  (list "--log-format" $v.logFormat)
  (list "--listen-addr" (printf ":%s" (include "sealed-secrets.containerPort" (list "http" .))))
  (list "--listen-metrics-addr" (printf ":%s" (include "sealed-secrets.containerPort" (list "metrics" .))))
  (list "--max-unseal-retries" $v.maxRetries)
  (list "--kubeclient-qps" $v.kubeClientQPS)
  (list "--kubeclient-burst" $v.kubeClientBurst)
  (list "--forbid-secret-types" (join "," $v.forbidSecretTypes))
  (list "--allow-secret-types" (join "," $v.allowSecretTypes))
  (list "--forbid-secret-metadata" (join "," $v.forbidSecretMetadata))
  (list "--secret-labels" (include "sealed-secrets.pairs" (list "secretLabels" $v.secretLabels)))
  (list "--secret-annotations" (include "sealed-secrets.pairs" (list "secretAnnotations" $v.secretAnnotations)))
  (list "--forbid-templates" (join "," $v.forbidTemplates))
  (list "--allowed-scopes" (join "," $v.allowedScopes))
  (list "--additional-recipients" (join "," $v.additionalRecipients))
  (list "--require-v2" (join "," $v.requireV2))
  (list "--require-bound" (join "," $v.requireBound))
  (list "--minimum-suite" (join "," $v.minimumSuite))
  (list "--max-sealing-key-age" $v.maxSealingKeyAge)
  (list "--leader-elect-lease-name" ($v.leaderElection).leaseName)
}}
{{- if ne (toString $v.metrics.maxObjects) "1000" }}
{{- $texts = append $texts (list "--metrics-max-objects" $v.metrics.maxObjects) }}
{{- end }}
{{- if ne (toString $v.sealingSuite) "rsa" }}
{{- $texts = append $texts (list "--sealing-suite" $v.sealingSuite) }}
{{- end }}
{{- if ne (toString $v.maxLocks) "256" }}
{{- $texts = append $texts (list "--max-locks" $v.maxLocks) }}
{{- end }}
{{- if ($v.certificateConfigMap).enabled }}
{{- $texts = append $texts (list "--certificate-configmap" (include "sealed-secrets.certificateConfigMap" .)) }}
{{- end }}
{{- if ($v.authorizedEndpoints).enabled }}
{{- $texts = append $texts (list "--listen-authorized-addr" (printf ":%v" $v.authorizedEndpoints.port)) }}
{{- end }}
{{- range $texts }}
{{- if include "sealed-secrets.isSet" (index . 1) }}
{{- $args = concat $args (list (index . 0) (include "sealed-secrets.text" (index . 1))) }}
{{- end }}
{{- end }}
{{- with $v.extraArgs }}
{{- $args = concat $args (include "sealed-secrets.rendered" (list . $) | fromYamlArray) }}
{{- end }}
{{- toYaml $args }}
{{- end }}

{{/* Identifies the Pod, so that a restarted container keeps its Lease and knows its namespace. Omits the variables
that extraEnv sets. */}}
{{- define "sealed-secrets.environment" -}}
{{- $extra := list }}
{{- with .Values.extraEnv }}
{{- $extra = include "sealed-secrets.rendered" (list . $) | fromYamlArray }}
{{- end }}
{{- $names := list }}
{{- range $extra }}
{{- $names = append $names .name }}
{{- end }}
{{- $env := list }}
{{- range list (list "POD_NAME" "metadata.name") (list "POD_NAMESPACE" "metadata.namespace") (list "POD_UID" "metadata.uid") }}
{{- if not (has (first .) $names) }}
{{- $env = append $env (dict "name" (first .) "valueFrom" (dict "fieldRef" (dict "fieldPath" (last .)))) }}
{{- end }}
{{- end }}
{{- toYaml (concat $env $extra) }}
{{- end }}

{{/* A map as k=v,k2=v2: (list NAME MAP). */}}
{{- define "sealed-secrets.pairs" -}}
{{- $name := index . 0 }}
{{- $pairs := list }}
{{- range $key, $value := index . 1 }}
{{- if or (not (kindIs "string" $value)) (contains "," (toString $value)) }}
{{- fail (printf "%s.%s must be a string without commas; quote the value" $name $key) }}
{{- end }}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) }}
{{- end }}
{{- join "," $pairs }}
{{- end }}
