//! Every value has an effect.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use regex::Regex;
use serde_json::Value;
use tests::operators::{self, objects};
use tests::{binaries, peer};

use crate::helm::chart;
use crate::render::Render;

/// A value, what it needs beside it, what it is set to, where that shows, and how.
///
/// Where: `args`, or an object and a pointer into it. How: the JSON that stands there, `~TEXT` for JSON
/// that contains it, or `-` for nothing.
type Effect = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const POD: &str = "Deployment /spec/template/spec/";
const BOX: &str = "Deployment /spec/template/spec/containers/0/";

/// The values of the peer's chart.
const PEERS: &[Effect] = &[
    (
        "kubeVersion",
        "ingress: {enabled: true}",
        "1.18.0",
        "Ingress /apiVersion",
        r#""networking.k8s.io/v1beta1""#,
    ),
    (
        "nameOverride",
        "",
        "other",
        "Deployment /metadata/name",
        r#""release-other""#,
    ),
    (
        "fullnameOverride",
        "",
        "other",
        "Deployment /metadata/name",
        r#""other""#,
    ),
    (
        "namespace",
        "",
        "there",
        "Deployment /metadata/namespace",
        r#""there""#,
    ),
    (
        "extraDeploy",
        "",
        "[{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-more'}}]",
        "ConfigMap /metadata/name",
        r#""release-more""#,
    ),
    (
        "commonAnnotations",
        "",
        "{a: '{{ .Release.Name }}'}",
        "ServiceAccount /metadata/annotations/a",
        r#""release""#,
    ),
    (
        "commonLabels",
        "",
        "{a: '{{ .Release.Name }}'}",
        "ClusterRole /metadata/labels/a",
        r#""release""#,
    ),
    (
        "image.registry",
        "",
        "r.example.com",
        "BOX image",
        r#"~"r.example.com/sealed-secrets-controller:"#,
    ),
    ("image.repository", "", "a/b", "BOX image", r#"~"a/b:"#),
    (
        "image.tag",
        "",
        "v9",
        "BOX image",
        r#""sealed-secrets-controller:v9""#,
    ),
    (
        "image.pullPolicy",
        "",
        "Always",
        "BOX imagePullPolicy",
        r#""Always""#,
    ),
    (
        "image.pullSecrets",
        "",
        "[one]",
        "POD imagePullSecrets",
        r#"[{"name":"one"}]"#,
    ),
    (
        "revisionHistoryLimit",
        "",
        "3",
        "Deployment /spec/revisionHistoryLimit",
        "3",
    ),
    ("createController", "", "false", "Deployment /kind", "-"),
    (
        "secretName",
        "",
        "other-key",
        "args",
        "--key-prefix other-key",
    ),
    ("updateStatus", "", "false", "args", "--update-status=false"),
    ("skipRecreate", "", "true", "args", "--skip-recreate=true"),
    ("keyrenewperiod", "", "'0'", "args", "--key-renew-period 0"),
    ("keyttl", "", "1h", "args", "--key-ttl 1h"),
    (
        "keycutofftime",
        "",
        "Mon, 02 Jan 2006 15:04:05 -0700",
        "args",
        "--key-cutoff-time Mon, 02 Jan 2006 15:04:05 -0700",
    ),
    ("rateLimit", "", "3000000", "args", "--rate-limit 3000000"),
    ("rateLimitBurst", "", "'4'", "args", "--rate-limit-burst 4"),
    (
        "additionalNamespaces",
        "",
        "[a, b]",
        "args",
        "--additional-namespaces a,b",
    ),
    (
        "privateKeyAnnotations",
        "",
        "{a: b, c: d=e}",
        "args",
        "--privatekey-annotations a=b,c=d=e",
    ),
    (
        "privateKeyLabels",
        "",
        "{a: b}",
        "args",
        "--privatekey-labels a=b",
    ),
    (
        "logInfoStdout",
        "",
        "false",
        "args",
        "--log-info-stdout=false",
    ),
    ("logLevel", "", "DEBUG", "args", "--log-level DEBUG"),
    ("logFormat", "", "json", "args", "--log-format json"),
    ("maxRetries", "", "7", "args", "--max-unseal-retries 7"),
    (
        "watchForSecrets",
        "",
        "true",
        "args",
        "--watch-for-secrets=true",
    ),
    ("kubeClientQPS", "", "-1", "args", "--kubeclient-qps -1"),
    ("kubeClientBurst", "", "20", "args", "--kubeclient-burst 20"),
    (
        "command",
        "",
        "['{{ .Release.Name }}']",
        "BOX command",
        r#"["release"]"#,
    ),
    (
        "args",
        "",
        "['{{ .Release.Name }}']",
        "BOX args",
        r#"["release"]"#,
    ),
    (
        "livenessProbe.enabled",
        "",
        "false",
        "BOX livenessProbe",
        "-",
    ),
    (
        "livenessProbe.initialDelaySeconds",
        "",
        "2",
        "BOX livenessProbe/initialDelaySeconds",
        "2",
    ),
    (
        "livenessProbe.periodSeconds",
        "",
        "2",
        "BOX livenessProbe/periodSeconds",
        "2",
    ),
    (
        "livenessProbe.timeoutSeconds",
        "",
        "2",
        "BOX livenessProbe/timeoutSeconds",
        "2",
    ),
    (
        "livenessProbe.failureThreshold",
        "",
        "2",
        "BOX livenessProbe/failureThreshold",
        "2",
    ),
    (
        "livenessProbe.successThreshold",
        "",
        "2",
        "BOX livenessProbe/successThreshold",
        "2",
    ),
    (
        "readinessProbe.enabled",
        "",
        "false",
        "BOX readinessProbe",
        "-",
    ),
    (
        "readinessProbe.initialDelaySeconds",
        "",
        "2",
        "BOX readinessProbe/initialDelaySeconds",
        "2",
    ),
    (
        "readinessProbe.periodSeconds",
        "",
        "2",
        "BOX readinessProbe/periodSeconds",
        "2",
    ),
    (
        "readinessProbe.timeoutSeconds",
        "",
        "2",
        "BOX readinessProbe/timeoutSeconds",
        "2",
    ),
    (
        "readinessProbe.failureThreshold",
        "",
        "2",
        "BOX readinessProbe/failureThreshold",
        "2",
    ),
    (
        "readinessProbe.successThreshold",
        "",
        "2",
        "BOX readinessProbe/successThreshold",
        "2",
    ),
    (
        "startupProbe.enabled",
        "",
        "true",
        "BOX startupProbe/tcpSocket/port",
        r#""http""#,
    ),
    (
        "startupProbe.initialDelaySeconds",
        "startupProbe: {enabled: true}",
        "2",
        "BOX startupProbe/initialDelaySeconds",
        "2",
    ),
    (
        "startupProbe.periodSeconds",
        "startupProbe: {enabled: true}",
        "2",
        "BOX startupProbe/periodSeconds",
        "2",
    ),
    (
        "startupProbe.timeoutSeconds",
        "startupProbe: {enabled: true}",
        "2",
        "BOX startupProbe/timeoutSeconds",
        "2",
    ),
    (
        "startupProbe.failureThreshold",
        "startupProbe: {enabled: true}",
        "2",
        "BOX startupProbe/failureThreshold",
        "2",
    ),
    (
        "startupProbe.successThreshold",
        "startupProbe: {enabled: true}",
        "2",
        "BOX startupProbe/successThreshold",
        "2",
    ),
    (
        "customLivenessProbe",
        "livenessProbe: {enabled: false}",
        "{exec: {command: ['{{ .Release.Name }}']}}",
        "BOX livenessProbe/exec/command/0",
        r#""release""#,
    ),
    (
        "customReadinessProbe",
        "readinessProbe: {enabled: false}",
        "{exec: {command: [a]}}",
        "BOX readinessProbe/exec/command/0",
        r#""a""#,
    ),
    (
        "customStartupProbe",
        "",
        "{exec: {command: [a]}}",
        "BOX startupProbe/exec/command/0",
        r#""a""#,
    ),
    (
        "resources.limits",
        "",
        "{memory: 1Gi}",
        "BOX resources/limits/memory",
        r#""1Gi""#,
    ),
    (
        "resources.requests",
        "",
        "{cpu: 10m}",
        "BOX resources/requests/cpu",
        r#""10m""#,
    ),
    (
        "podSecurityContext.enabled",
        "",
        "false",
        "POD securityContext",
        "-",
    ),
    (
        "podSecurityContext.fsGroup",
        "",
        "7",
        "POD securityContext/fsGroup",
        "7",
    ),
    (
        "containerSecurityContext.enabled",
        "",
        "false",
        "BOX securityContext",
        "-",
    ),
    (
        "containerSecurityContext.readOnlyRootFilesystem",
        "",
        "false",
        "BOX securityContext/readOnlyRootFilesystem",
        "false",
    ),
    (
        "containerSecurityContext.runAsNonRoot",
        "",
        "false",
        "BOX securityContext/runAsNonRoot",
        "false",
    ),
    (
        "containerSecurityContext.runAsUser",
        "",
        "7",
        "BOX securityContext/runAsUser",
        "7",
    ),
    (
        "containerSecurityContext.capabilities.drop",
        "",
        "[KILL]",
        "BOX securityContext/capabilities/drop",
        r#"["KILL"]"#,
    ),
    (
        "podLabels",
        "",
        "{a: b}",
        "Deployment /spec/template/metadata/labels/a",
        r#""b""#,
    ),
    (
        "podAnnotations",
        "",
        "{a: b}",
        "Deployment /spec/template/metadata/annotations/a",
        r#""b""#,
    ),
    (
        "priorityClassName",
        "",
        "high",
        "POD priorityClassName",
        r#""high""#,
    ),
    (
        "runtimeClassName",
        "",
        "gvisor",
        "POD runtimeClassName",
        r#""gvisor""#,
    ),
    (
        "affinity",
        "",
        "{podAffinity: {}}",
        "POD affinity",
        r#"{"podAffinity":{}}"#,
    ),
    (
        "nodeSelector",
        "",
        "{a: b}",
        "POD nodeSelector",
        r#"{"a":"b"}"#,
    ),
    (
        "tolerations",
        "",
        "[{operator: Exists}]",
        "POD tolerations",
        r#"[{"operator":"Exists"}]"#,
    ),
    (
        "additionalVolumes",
        "",
        "[{name: more}]",
        "POD volumes/0/name",
        r#""more""#,
    ),
    (
        "additionalVolumeMounts",
        "",
        "[{name: more}]",
        "BOX volumeMounts/0/name",
        r#""more""#,
    ),
    ("hostNetwork", "", "true", "BOX ports/1/hostPort", "8081"),
    (
        "containerPorts.http",
        "",
        "9090",
        "args",
        "--listen-addr :9090",
    ),
    (
        "containerPorts.metrics",
        "",
        "9091",
        "args",
        "--listen-metrics-addr :9091",
    ),
    ("hostPorts.http", "", "9090", "BOX ports/0/hostPort", "9090"),
    (
        "hostPorts.metrics",
        "",
        "9091",
        "BOX ports/1/hostPort",
        "9091",
    ),
    ("dnsPolicy", "", "Default", "POD dnsPolicy", r#""Default""#),
    (
        "service.type",
        "",
        "NodePort",
        "Service/release-sealed-secrets /spec/type",
        r#""NodePort""#,
    ),
    (
        "service.loadBalancerClass",
        "",
        "internal",
        "Service/release-sealed-secrets /spec/loadBalancerClass",
        r#""internal""#,
    ),
    (
        "service.port",
        "",
        "80",
        "Service/release-sealed-secrets /spec/ports/0/port",
        "80",
    ),
    (
        "service.nodePort",
        "service: {type: NodePort}",
        "30080",
        "Service/release-sealed-secrets /spec/ports/0/nodePort",
        "30080",
    ),
    (
        "service.annotations",
        "",
        "{a: '{{ .Release.Name }}'}",
        "Service/release-sealed-secrets /metadata/annotations/a",
        r#""release""#,
    ),
    (
        "service.labels",
        "",
        "{a: '{{ .Release.Name }}'}",
        "Service/release-sealed-secrets /metadata/labels/a",
        r#""release""#,
    ),
    (
        "ingress.enabled",
        "",
        "true",
        "Ingress /spec/rules/0/http/paths/0/backend/service/port/name",
        r#""http""#,
    ),
    (
        "ingress.pathType",
        "ingress: {enabled: true}",
        "Exact",
        "Ingress /spec/rules/0/http/paths/0/pathType",
        r#""Exact""#,
    ),
    (
        "ingress.apiVersion",
        "ingress: {enabled: true}",
        "networking.k8s.io/v1beta1",
        "Ingress /spec/rules/0/http/paths/0/backend/servicePort",
        r#""http""#,
    ),
    (
        "ingress.ingressClassName",
        "ingress: {enabled: true}",
        "a",
        "Ingress /spec/ingressClassName",
        r#""a""#,
    ),
    (
        "ingress.hostname",
        "ingress: {enabled: true}",
        "a.example.com",
        "Ingress /spec/rules/0/host",
        r#""a.example.com""#,
    ),
    (
        "ingress.path",
        "ingress: {enabled: true}",
        "/v1/certs.pem",
        "Ingress /spec/rules/0/http/paths/0/path",
        r#""/v1/certs.pem""#,
    ),
    (
        "ingress.annotations",
        "ingress: {enabled: true}",
        "{a: b}",
        "Ingress /metadata/annotations/a",
        r#""b""#,
    ),
    (
        "ingress.tls",
        "ingress: {enabled: true}",
        "true",
        "Ingress /spec/tls/0/secretName",
        r#""sealed-secrets.local-tls""#,
    ),
    (
        "ingress.selfSigned",
        "ingress: {enabled: true, tls: true}",
        "true",
        "Secret/sealed-secrets.local-tls /type",
        r#""kubernetes.io/tls""#,
    ),
    (
        "ingress.extraHosts",
        "ingress: {enabled: true}",
        "[{name: b.example.com}]",
        "Ingress /spec/rules/1/http/paths/0/path",
        r#""/""#,
    ),
    (
        "ingress.extraPaths",
        "ingress: {enabled: true}",
        "[{path: /first}]",
        "Ingress /spec/rules/0/http/paths/0/path",
        r#""/first""#,
    ),
    (
        "ingress.extraTls",
        "ingress: {enabled: true}",
        "[{secretName: '{{ .Release.Name }}'}]",
        "Ingress /spec/tls/0/secretName",
        r#""release""#,
    ),
    (
        "ingress.secrets",
        "ingress: {enabled: true}",
        "[{name: a, certificate: b, key: c}]",
        "Secret/a /data",
        r#"{"tls.crt":"Yg==","tls.key":"Yw=="}"#,
    ),
    (
        "networkPolicy.enabled",
        "",
        "true",
        "NetworkPolicy /spec/policyTypes",
        r#"["Ingress"]"#,
    ),
    (
        "networkPolicy.egress.enabled",
        "networkPolicy: {enabled: true, egress: {kubeapiCidr: 10.0.0.1/32}}",
        "true",
        "NetworkPolicy /spec/policyTypes/1",
        r#""Egress""#,
    ),
    (
        "networkPolicy.egress.kubeapiCidr",
        "networkPolicy: {enabled: true, egress: {enabled: true}}",
        "10.0.0.1/32",
        "NetworkPolicy /spec/egress/0/to/0/ipBlock/cidr",
        r#""10.0.0.1/32""#,
    ),
    (
        "networkPolicy.egress.kubeapiPort",
        "networkPolicy: {enabled: true, egress: {enabled: true, kubeapiCidr: 10.0.0.1/32}}",
        "6443",
        "NetworkPolicy /spec/egress/0/ports/0/port",
        "6443",
    ),
    (
        "serviceAccount.create",
        "",
        "false",
        "POD serviceAccountName",
        r#""default""#,
    ),
    (
        "serviceAccount.name",
        "",
        "other",
        "POD serviceAccountName",
        r#""other""#,
    ),
    (
        "serviceAccount.annotations",
        "",
        "{a: b}",
        "ServiceAccount /metadata/annotations/a",
        r#""b""#,
    ),
    (
        "serviceAccount.labels",
        "",
        "{a: b}",
        "ServiceAccount /metadata/labels/a",
        r#""b""#,
    ),
    ("rbac.create", "", "false", "RoleBinding /kind", "-"),
    ("rbac.clusterRole", "", "false", "ClusterRole /kind", "-"),
    (
        "rbac.clusterRoleName",
        "",
        "other",
        "ClusterRoleBinding /roleRef/name",
        r#""other""#,
    ),
    (
        "rbac.namespacedRoles",
        "rbac: {clusterRole: false}",
        "true",
        "ClusterRoleBinding /kind",
        "-",
    ),
    (
        "rbac.namespacedRolesName",
        "rbac: {clusterRole: false, namespacedRoles: true}",
        "other",
        "Role/other /kind",
        r#""Role""#,
    ),
    (
        "rbac.labels",
        "",
        "{a: '{{ .Release.Name }}'}",
        "ClusterRole /metadata/labels/a",
        r#""release""#,
    ),
    (
        "rbac.serviceProxier.create",
        "",
        "false",
        "Role/release-sealed-secrets-service-proxier /kind",
        "-",
    ),
    (
        "rbac.serviceProxier.bind",
        "",
        "false",
        "RoleBinding/release-sealed-secrets-service-proxier /kind",
        "-",
    ),
    (
        "rbac.serviceProxier.subjects",
        "",
        "[{kind: User, name: me}]",
        "RoleBinding/release-sealed-secrets-service-proxier /subjects",
        r#"[{"kind":"User","name":"me"}]"#,
    ),
    (
        "metrics.serviceMonitor.enabled",
        "",
        "true",
        "ServiceMonitor /spec/endpoints/0/port",
        r#""metrics""#,
    ),
    (
        "metrics.serviceMonitor.namespace",
        MONITOR,
        "there",
        "ServiceMonitor /metadata/namespace",
        r#""there""#,
    ),
    (
        "metrics.serviceMonitor.labels",
        MONITOR,
        "{a: b}",
        "ServiceMonitor /metadata/labels/a",
        r#""b""#,
    ),
    (
        "metrics.serviceMonitor.annotations",
        MONITOR,
        "{a: b}",
        "ServiceMonitor /metadata/annotations/a",
        r#""b""#,
    ),
    (
        "metrics.serviceMonitor.interval",
        MONITOR,
        "7s",
        "ServiceMonitor /spec/endpoints/0/interval",
        r#""7s""#,
    ),
    (
        "metrics.serviceMonitor.scrapeTimeout",
        MONITOR,
        "7s",
        "ServiceMonitor /spec/endpoints/0/scrapeTimeout",
        r#""7s""#,
    ),
    (
        "metrics.serviceMonitor.honorLabels",
        MONITOR,
        "false",
        "ServiceMonitor /spec/endpoints/0/honorLabels",
        "-",
    ),
    (
        "metrics.serviceMonitor.metricRelabelings",
        MONITOR,
        "[{action: drop}]",
        "ServiceMonitor /spec/endpoints/0/metricRelabelings",
        r#"[{"action":"drop"}]"#,
    ),
    (
        "metrics.serviceMonitor.relabelings",
        MONITOR,
        "[{action: drop}]",
        "ServiceMonitor /spec/endpoints/0/relabelings",
        r#"[{"action":"drop"}]"#,
    ),
    (
        "metrics.dashboards.create",
        "",
        "true",
        "ConfigMap/release-sealed-secrets-sealed-secrets-controller /data/sealed-secrets-controller.json",
        r#"~\"panels\""#,
    ),
    (
        "metrics.dashboards.labels",
        "metrics: {dashboards: {create: true}}",
        "{a: b}",
        "ConfigMap /metadata/labels/a",
        r#""b""#,
    ),
    (
        "metrics.dashboards.annotations",
        "metrics: {dashboards: {create: true}}",
        "{a: b}",
        "ConfigMap /metadata/annotations/a",
        r#""b""#,
    ),
    (
        "metrics.dashboards.namespace",
        "metrics: {dashboards: {create: true}}",
        "there",
        "ConfigMap /metadata/namespace",
        r#""there""#,
    ),
    (
        "metrics.service.type",
        "",
        "NodePort",
        "Service/release-sealed-secrets-metrics /spec/type",
        r#""NodePort""#,
    ),
    (
        "metrics.service.loadBalancerClass",
        "",
        "internal",
        "Service/release-sealed-secrets-metrics /spec/loadBalancerClass",
        r#""internal""#,
    ),
    (
        "metrics.service.port",
        "",
        "80",
        "Service/release-sealed-secrets-metrics /spec/ports/0/port",
        "80",
    ),
    (
        "metrics.service.nodePort",
        "metrics: {service: {type: NodePort}}",
        "30081",
        "Service/release-sealed-secrets-metrics /spec/ports/0/nodePort",
        "30081",
    ),
    (
        "metrics.service.annotations",
        "",
        "{a: b}",
        "Service/release-sealed-secrets-metrics /metadata/annotations/a",
        r#""b""#,
    ),
    (
        "metrics.service.labels",
        "",
        "{a: b}",
        "Service/release-sealed-secrets-metrics /metadata/labels/a",
        r#""b""#,
    ),
    (
        "pdb.create",
        "",
        "true",
        "PodDisruptionBudget /spec/minAvailable",
        "1",
    ),
    (
        "pdb.minAvailable",
        "pdb: {create: true}",
        "2",
        "PodDisruptionBudget /spec/minAvailable",
        "2",
    ),
    (
        "pdb.maxUnavailable",
        "pdb: {create: true}",
        "50%",
        "PodDisruptionBudget /spec/maxUnavailable",
        r#""50%""#,
    ),
];

const MONITOR: &str = "metrics: {serviceMonitor: {enabled: true}}";
const RULE: &str = "metrics: {prometheusRule: {enabled: true}}";

/// Those of its later releases, and our own.
const OTHERS: &[Effect] = &[
    (
        "podSecurityContext.seccompProfile.type",
        "",
        "Unconfined",
        "POD securityContext/seccompProfile/type",
        r#""Unconfined""#,
    ),
    (
        "containerSecurityContext.allowPrivilegeEscalation",
        "",
        "true",
        "BOX securityContext/allowPrivilegeEscalation",
        "true",
    ),
    ("hostUsers", "", "false", "POD hostUsers", "false"),
    (
        "metrics.prometheusRule.enabled",
        "",
        "true",
        "PrometheusRule /spec/groups/0/name",
        r#""sealed-secrets""#,
    ),
    (
        "metrics.prometheusRule.namespace",
        RULE,
        "there",
        "PrometheusRule /metadata/namespace",
        r#""there""#,
    ),
    (
        "metrics.prometheusRule.labels",
        RULE,
        "{a: b}",
        "PrometheusRule /metadata/labels/a",
        r#""b""#,
    ),
    (
        "metrics.prometheusRule.annotations",
        RULE,
        "{a: b}",
        "PrometheusRule /metadata/annotations/a",
        r#""b""#,
    ),
    (
        "metrics.prometheusRule.groups",
        RULE,
        "[{name: mine}]",
        "PrometheusRule /spec/groups",
        r#"[{"name":"mine"}]"#,
    ),
    (
        "image.digest",
        "",
        "'sha256:0000000000000000000000000000000000000000000000000000000000000000'",
        "BOX image",
        "~controller@sha256:00",
    ),
    (
        "livenessProbe.path",
        "",
        "/readyz",
        "BOX livenessProbe/httpGet/path",
        r#""/readyz""#,
    ),
    (
        "readinessProbe.path",
        "",
        "/healthz",
        "BOX readinessProbe/httpGet/path",
        r#""/healthz""#,
    ),
    (
        "networkPolicy.httpFrom",
        "networkPolicy: {enabled: true}",
        "[{podSelector: {}}]",
        "NetworkPolicy /spec/ingress/0/from",
        r#"[{"podSelector":{}}]"#,
    ),
    (
        "networkPolicy.metricsFrom",
        "networkPolicy: {enabled: true}",
        "[{podSelector: {}}]",
        "NetworkPolicy /spec/ingress/1/from",
        r#"[{"podSelector":{}}]"#,
    ),
    (
        "metrics.omitSecretLabels",
        "",
        "true",
        "args",
        "--metrics-omit-secret-labels=true",
    ),
    (
        "crds.install",
        "",
        "false",
        "CustomResourceDefinition /kind",
        "-",
    ),
    ("replicas", "", "2", "Deployment /spec/replicas", "2"),
    (
        "updateStrategy",
        "",
        "{type: Recreate}",
        "Deployment /spec/strategy",
        r#"{"type":"Recreate"}"#,
    ),
    (
        "topologySpreadConstraints",
        "",
        "[{maxSkew: 1}]",
        "POD topologySpreadConstraints",
        r#"[{"maxSkew":1}]"#,
    ),
    (
        "leaderElection.enabled",
        "",
        "false",
        "args",
        "--leader-elect=false",
    ),
    (
        "leaderElection.leaseName",
        "",
        "other",
        "args",
        "--leader-elect-lease-name other",
    ),
    ("correctDrift", "", "false", "args", "--correct-drift=false"),
    (
        "refuseRandomTemplates",
        "",
        "true",
        "args",
        "--refuse-random-templates=true",
    ),
    ("requireBackup", "", "true", "args", "--require-backup=true"),
    (
        "forbidSecretTypes",
        "",
        "[a, b]",
        "args",
        "--forbid-secret-types a,b",
    ),
    (
        "allowedScopes",
        "",
        "[prod=strict, '*=strict+namespace-wide']",
        "args",
        "--allowed-scopes prod=strict,*=strict+namespace-wide",
    ),
    (
        "maxSealingKeyAge",
        "",
        "8760h",
        "args",
        "--max-sealing-key-age 8760h",
    ),
    (
        "oldGCBehavior",
        "",
        "true",
        "ClusterRole /rules/2/verbs",
        r#"~"delete""#,
    ),
    (
        "certificateConfigMap.enabled",
        "",
        "true",
        "args",
        "--certificate-configmap release-sealed-secrets-certificate",
    ),
    (
        "certificateConfigMap.name",
        "certificateConfigMap: {enabled: true}",
        "other",
        "Role/release-sealed-secrets-certificate /rules/1/resourceNames",
        r#"["other"]"#,
    ),
    (
        "authorizedEndpoints.enabled",
        "",
        "true",
        "args",
        "--listen-authorized-addr :8443",
    ),
    (
        "authorizedEndpoints.port",
        "authorizedEndpoints: {enabled: true}",
        "9443",
        "Service/release-sealed-secrets /spec/ports/1/port",
        "9443",
    ),
    (
        "authorizedEndpoints.plainCertificateOnly",
        "",
        "true",
        "args",
        "--plain-certificate-only=true",
    ),
    (
        "extraArgs",
        "",
        "['--my-cn={{ .Release.Name }}']",
        "args",
        "--my-cn=release",
    ),
    (
        "extraEnv",
        "",
        "[{name: A, value: '{{ .Release.Name }}'}]",
        "BOX env",
        r#"[{"name":"A","value":"release"}]"#,
    ),
];

/// Values whose effect other tests see: H7, and one that only a cluster shows.
const ELSEWHERE: &[&str] = &["rbac.pspEnabled", "crds.adopt"];

/// Values of the peer's chart that its own README does not name.
const HIDDEN: &[&str] = &["service.labels", "metrics.service.labels"];

#[test]
fn every_value_of_the_peers_chart_has_its_effect() {
    for effect in PEERS {
        shows(effect);
    }
}

#[test]
fn every_other_value_has_its_effect() {
    for effect in OTHERS {
        shows(effect);
    }
}

#[test]
fn no_value_is_without_an_effect() {
    let theirs = leaves_of(&peer::chart().join("values.yaml").to_string_lossy());
    let ours = leaves_of(&format!("{}/values.yaml", chart()));
    let named = |effects: &[Effect]| effects.iter().map(|effect| effect.0.to_owned()).collect();
    let elsewhere: BTreeSet<_> = ELSEWHERE.iter().map(|leaf| (*leaf).to_owned()).collect();
    let (peers, others): (BTreeSet<String>, BTreeSet<String>) = (named(PEERS), named(OTHERS));

    let lacking: Vec<_> = theirs.difference(&ours).collect();
    assert!(
        lacking.is_empty(),
        "values of the peer that ours lacks: {lacking:?}"
    );
    let mut known = theirs;
    known.extend(HIDDEN.iter().map(|leaf| (*leaf).to_owned()));
    let known_there: BTreeSet<_> = &peers | &elsewhere;
    assert_eq!(known.difference(&known_there).collect::<Vec<_>>(), [""; 0]);
    let all = &(&peers | &others) | &elsewhere;
    assert_eq!(
        ours.difference(&all).collect::<Vec<_>>(),
        [""; 0],
        "without an effect"
    );
    assert_eq!(
        all.difference(&ours).collect::<Vec<_>>(),
        [""; 0],
        "no such value"
    );
}

#[test]
fn the_schema_knows_every_value_and_refuses_another_type() {
    let schema = fs::read_to_string(format!("{}/values.schema.json", chart())).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    for leaf in leaves_of(&format!("{}/values.yaml", chart())) {
        let mut place = &schema;
        for part in leaf.split('.') {
            if place["properties"].is_null() {
                break; // Copied as it is.
            }
            place = &place["properties"][part];
            assert!(place.is_object(), "values.schema.json lacks {leaf}");
        }
    }
    for (values, said) in [
        ("replicas: two", "replicas"),
        ("keyttl: 30d", "keyttl"),
        ("leaderElection: {enable: true}", "enable"),
        ("updateStatus: 'false'", "updateStatus"),
        ("image: {pullPolicy: Sometimes}", "pullPolicy"),
    ] {
        let refusal = Render::refusal(values);
        assert!(refusal.contains(said), "{values}: {refusal}");
    }
    let refusal = Render::refusal("privateKeyLabels: {a: 'b,c'}");
    assert!(refusal.contains("privateKeyLabels.a"), "{refusal}");
}

#[test]
fn the_controller_knows_every_flag_of_the_chart() {
    let mut controller = Command::new(binaries::controller());
    let help = operators::successful(controller.arg("--help"));
    let flag = Regex::new("--[a-z0-9-]+").unwrap();
    let known: BTreeSet<_> = flag.find_iter(&help).map(|found| found.as_str()).collect();
    let arguments = fs::read_to_string(format!("{}/templates/_arguments.tpl", chart())).unwrap();
    let used: BTreeSet<_> = flag
        .find_iter(&arguments)
        .map(|found| found.as_str())
        .collect();
    assert!(used.len() > 20, "{used:?}");
    for flag in &used {
        assert!(known.contains(flag), "the controller has no {flag}");
    }
}

fn shows(effect: &Effect) {
    let (leaf, base, set, place, want) = *effect;
    let line = nested(leaf, set);
    let render = Render::with(base, &["-f", &crate::render::file(&line)]);
    let found = found(&render, place);
    let fits = match want.strip_prefix('~') {
        _ if place == "args" => found.contains(&format!(" {want} ")),
        Some(part) => found.contains(part),
        None => found == want,
    };
    assert!(fits, "{line} gives {found} at {place}, not {want}");
    let before = self::found(&Render::of(base_of(base)), place);
    assert_ne!(before, found, "{leaf}: it was there without");
}

/// Some needs have no rendering of their own: the value is what makes them whole.
fn base_of(base: &str) -> &str {
    if base.contains("egress: {enabled: true}") {
        ""
    } else {
        base
    }
}

fn found(render: &Render, place: &str) -> String {
    if place == "args" {
        return render.arguments();
    }
    let place = place.replace("POD ", POD).replace("BOX ", BOX);
    let (object, pointer) = place.split_once(' ').unwrap();
    let found = render
        .find(object)
        .and_then(|object| object.pointer(pointer));
    found.map_or_else(|| "-".to_owned(), Value::to_string)
}

/// `a.b` and `c` as `{a: {b: c}}`.
fn nested(leaf: &str, set: &str) -> String {
    let depth = leaf.matches('.').count();
    let needs_quotes = !set.starts_with(['[', '{', '\'']) && set.contains([',', ':', '%']);
    let set = if needs_quotes {
        format!("'{set}'")
    } else {
        set.to_owned()
    };
    let opened = leaf.replace('.', ": {");
    format!("{opened}: {set}{}", "}".repeat(depth))
}

fn leaves_of(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let mut leaves = BTreeSet::new();
    collect("", &objects(&text)[0], &mut leaves);
    leaves
}

fn collect(path: &str, value: &Value, leaves: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                collect(&format!("{path}{dot}{key}"), value, leaves);
            }
        }
        _ => {
            leaves.insert(path.to_owned());
        }
    }
}
