//! Checks the controller behind the Service, and the certificate that it serves.

use kubeseal_library::cluster::{
    Access, ApiPath, ClusterError, Clusters, Controller, Objects, parse,
};
use serde_json::Value as Json;
use shared::error_chain;
use shared::key::{Certificate, Validity};

use super::connection::STOPPED_RESPONDING;
use super::findings::Finding;

/// Checks that the controller is running and has finished its initial sync. Returns `None` instead of the controller if
/// it cannot be found or its health check fails.
pub(super) fn check(
    objects: &Objects,
    access: &Access,
    clusters: &Clusters<'_>,
) -> (Option<Controller>, Finding) {
    let controller = match Controller::find(access, clusters) {
        Ok(controller) => controller,
        Err(error) => {
            let remedy = format!(
                "if RBAC denies the request, ask an administrator for permission to `get` services in {}",
                access.namespace
            );
            return (None, Finding::bad(error_chain(&error), remedy));
        }
    };
    match health_problem(objects, access) {
        Some(finding) => (None, finding),
        None => (Some(controller), check_readiness(objects, access)),
    }
}

fn health_problem(objects: &Objects, access: &Access) -> Option<Finding> {
    Some(match get_through_proxy(objects, access, "healthz") {
        Ok((200, body)) if body.starts_with(b"ok") => return None,
        Ok((403, _)) => Finding::bad(
            "no permission to reach the controller through the API server (403)",
            format!(
                "ask an administrator for permission to `get` and `create` services/proxy in {}, or seal with --cert \
                 FILE",
                access.namespace
            ),
        ),
        Ok((502..=504, _)) => Finding::bad(
            "no Pod behind the Service responds",
            format!(
                "check whether the Pod of the controller is running: kubectl -n {0} get pods,endpoints; kubectl -n \
                {0} describe \
                 deployment {1}",
                access.namespace, access.name
            ),
        ),
        Ok((code, _)) => Finding::bad(
            format!("the program behind the Service is not a controller ({code} for /healthz)"),
            "the Service selects another program: check its selector and target port",
        ),
        Err(error) => Finding::bad(error_chain(&error), STOPPED_RESPONDING),
    })
}

fn check_readiness(objects: &Objects, access: &Access) -> Finding {
    match get_through_proxy(objects, access, "readyz") {
        Ok((200, _)) => Finding::good("running, initial sync complete"),
        // Upstream's controller does not have this endpoint.
        Ok((404, _)) => Finding::good("running"),
        _ => Finding::remark(
            "running, initial sync not complete",
            format!(
                "if this persists, check the log of the controller: kubectl -n {} logs deployment/{}",
                access.namespace, access.name
            ),
        ),
    }
}

/// Returns the certificate that the controller serves, even if it is not valid now, and the finding.
pub(super) fn check_certificate(
    objects: &Objects,
    access: &Access,
) -> (Option<Certificate>, Finding) {
    match get_through_proxy(objects, access, "v1/cert.pem") {
        Ok((200, pem)) => {
            let certificate = Certificate::from_pem(&pem).ok();
            let finding = check_validity(certificate.as_ref());
            (certificate, finding)
        }
        Ok((code, body)) => (None, no_certificate_finding(code, &body)),
        Err(error) => (None, Finding::bad(error_chain(&error), "try again")),
    }
}

fn no_certificate_finding(code: u16, body: &[u8]) -> Finding {
    if code == 404 {
        return Finding::bad(
            "the port behind the Service is not the controller's main port (404 for /v1/cert.pem)",
            "the Service selects another port or program: check its selector and target port",
        );
    }
    let message = String::from_utf8_lossy(body);
    let message: String = message.trim().chars().take(300).collect();
    let remedy = if code == 503 {
        "fix the reported problem; until then nothing can be sealed, but existing values can be unsealed"
    } else {
        "check in the log of the controller whether it has a usable key"
    };
    Finding::bad(
        format!("the controller serves no certificate ({code}): {message}"),
        remedy,
    )
}

fn check_validity(certificate: Option<&Certificate>) -> Finding {
    let Some(certificate) = certificate else {
        let remedy = "check which program is behind the Service";
        return Finding::bad("the response is not a certificate", remedy);
    };
    let until = certificate.not_after().strftime("%Y-%m-%d");
    let title = format!("{}, until {until}", certificate.fingerprint());
    match certificate.validity(jiff::Timestamp::now()) {
        Validity::Valid => Finding::good(title),
        Validity::Expired => Finding::bad(
            format!("{title}: expired"),
            "generate a new key: seal keys rotate",
        ),
        Validity::NotYet => Finding::bad(
            format!("{title}: not valid yet"),
            "compare the clocks of this machine and of the cluster",
        ),
    }
}

/// Sends a GET request to an endpoint of the controller, through the API server's proxy.
fn get_through_proxy(
    objects: &Objects,
    access: &Access,
    endpoint: &str,
) -> Result<(u16, Vec<u8>), ClusterError> {
    let Access {
        namespace, name, ..
    } = access;
    let services = ApiPath::namespaced("/api/v1", namespace, "services")?;
    let (_, body) = objects.get_raw(&services.object(name)?)?;
    let body: Json = parse(&body).unwrap_or_default();
    let port = body["spec"]["ports"][0]["name"]
        .as_str()
        .unwrap_or_default();
    objects.get_raw(&services.proxied(name, port, endpoint)?)
}
