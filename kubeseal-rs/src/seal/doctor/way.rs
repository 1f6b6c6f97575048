//! The way from here to the certificate.

use serde_json::Value as Json;
use shared::error_chain;
use shared::key::{Certificate, Validity};
use shared::key_marks::KeyState;

use super::Findings;
use crate::cluster::{Access, Authorised, ClusterError, Controller, Objects};
use crate::keys::{KeyRecord, KeyStore, record};
use crate::seal::keys::access;
use crate::seal_args::Doctor;
use crate::surroundings::Surroundings;

/// What was found on the way that a look at a file can use.
#[derive(Default)]
pub struct Way {
    /// The API server, if it answers.
    pub objects: Option<Objects>,
    /// The controller, if it answers.
    pub controller: Option<Controller>,
    /// Its port for callers with a token, if the words name it.
    pub authorised: Option<Authorised>,
    /// Key Secrets, if we may read them.
    pub records: Vec<KeyRecord>,
    /// Namespaces of the cluster, if we may list them.
    pub namespaces: Vec<String>,
}

/// Goes as far as it gets: after the first broken step nothing behind it is looked at.
pub fn look(words: &Doctor, surroundings: &Surroundings, findings: &mut Findings) -> Way {
    let mut way = Way::default();
    if let Some(folder) = &words.place.directory {
        match KeyStore::folder(folder).and_then(|store| store.read()) {
            Ok(records) => way.records = records,
            Err(error) => {
                findings.bad(
                    "folder",
                    error_chain(error.as_ref()),
                    "name the folder that the controller got with --directory",
                );
                return way;
            }
        }
        findings.good("folder", folder.display().to_string());
        keys(
            &way.records,
            None,
            findings,
            "put a backup into DIR/keys, or start the controller, which makes a key",
        );
        return way;
    }
    let access = access(&words.place, surroundings);
    let _ = cluster(&access, &mut way, findings);
    way
}

/// `None` after a broken step.
fn cluster(access: &Access, way: &mut Way, findings: &mut Findings) -> Option<()> {
    let objects = match Objects::connect(access) {
        Ok(objects) => objects,
        Err(error) => {
            let remedy = "name another with --kubeconfig or KUBECONFIG, and a context of it with --context; \
                          `kubectl config get-contexts` lists them";
            findings.bad("kubeconfig", error_chain(&error), remedy);
            return None;
        }
    };
    findings.good("kubeconfig", format!("leads to {}", objects.server()));
    api_server(&objects, findings)?;
    definition(&objects, findings)?;
    service(&objects, access, findings)?;
    way.controller = controller(&objects, access, findings);
    way.namespaces = namespaces(&objects);
    if way.controller.is_some() {
        let served = certificate(&objects, access, findings);
        way.records = key_secrets(access, served.as_ref(), findings);
    }
    way.objects = Some(objects);
    way.controller.as_ref().map(|_| ())
}

fn api_server(objects: &Objects, findings: &mut Findings) -> Option<()> {
    let name = "API server";
    match objects.look("/api") {
        Ok((200, _)) => findings.good(name, "answers, and knows who you are"),
        Ok((401, _)) => {
            let remedy = "the kubeconfig is out of date: fetch it anew, or log in again";
            findings.bad(name, "does not know who you are (401)", remedy);
            return None;
        }
        // Who may not see the list of versions may still see the Service.
        Ok((403, _)) => findings.good(name, "answers"),
        Ok((code, _)) => {
            let remedy = "is that the address of an API server? See `kubectl cluster-info`";
            findings.bad(
                name,
                format!("answers {code} where an API server says what it serves"),
                remedy,
            );
            return None;
        }
        Err(error) => {
            let remedy = "is the cluster up, and is its address right? Try `kubectl cluster-info`";
            findings.bad(name, error_chain(&error), remedy);
            return None;
        }
    }
    Some(())
}

fn definition(objects: &Objects, findings: &mut Findings) -> Option<()> {
    let name = "definition of SealedSecret";
    match objects
        .look("/apis/bitnami.com/v1alpha1")
        .map(|(code, _)| code)
    {
        Ok(200) => findings.good(name, "is there"),
        Ok(404) => {
            findings.bad(
                name,
                "the cluster does not know the kind",
                "apply the definition: kubectl apply -f deploy/crd.yaml",
            );
            return None;
        }
        _ => findings.skipped(name, "may not be seen"),
    }
    Some(())
}

fn service(objects: &Objects, access: &Access, findings: &mut Findings) -> Option<()> {
    let Access {
        namespace,
        name: service,
        ..
    } = access;
    let name = "Service";
    let title = format!("{namespace}/{service}");
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}");
    let elsewhere = "name the controller's with --controller-namespace and --controller-name; \
                     `kubectl get services -A` lists them";
    let body = match objects.look(&path) {
        Ok((200, body)) => body,
        Ok((404, _)) => {
            findings.bad(name, format!("{title} is not there"), elsewhere);
            return None;
        }
        Ok((403, _)) => {
            findings.skipped(name, format!("you may not see {title}"));
            return Some(());
        }
        Ok((code, _)) => {
            findings.bad(
                name,
                format!("{title}: the API server answers {code}"),
                "see the log of the API server",
            );
            return None;
        }
        Err(error) => {
            findings.bad(
                name,
                error_chain(&error),
                "the API server went away meanwhile: try again",
            );
            return None;
        }
    };
    let body: Json = serde_json::from_slice(&body).unwrap_or_default();
    if body["spec"]["ports"].get(0).is_none() {
        findings.bad(name, format!("{title} has no ports"), elsewhere);
        return None;
    }
    findings.good(name, title);
    Some(())
}

/// The Service leads to a controller that is up and has seen its objects.
fn controller(objects: &Objects, access: &Access, findings: &mut Findings) -> Option<Controller> {
    let name = "controller";
    let found = match Controller::find(access) {
        Ok(controller) => controller,
        Err(error) => {
            findings.bad(
                name,
                error_chain(&error),
                "ask for the right to `get` the Service",
            );
            return None;
        }
    };
    let health = proxied(objects, access, "healthz");
    match health {
        Ok((200, body)) if body.starts_with(b"ok") => {}
        Ok((403, _)) => {
            let remedy = "ask for `get` and `create` on services/proxy of this Service, or seal with --cert FILE";
            findings.bad(
                name,
                "you may not reach it through the API server (403)",
                remedy,
            );
            return None;
        }
        Ok((502..=504, _)) => {
            let remedy = format!(
                "is its Pod up? kubectl -n {0} get pods,endpoints; kubectl -n {0} describe deployment {1}",
                access.namespace, access.name
            );
            findings.bad(name, "nothing answers behind the Service", remedy);
            return None;
        }
        Ok((code, _)) => {
            let remedy = "the Service leads to another program: see its selector and target port";
            findings.bad(
                name,
                format!("what answers behind the Service is no controller ({code} for /healthz)"),
                remedy,
            );
            return None;
        }
        Err(error) => {
            findings.bad(
                name,
                error_chain(&error),
                "the API server went away meanwhile: try again",
            );
            return None;
        }
    }
    match proxied(objects, access, "readyz") {
        Ok((200, _)) => findings.good(name, "is up and has seen every object"),
        // The peer has no such endpoint.
        Ok((404, _)) => findings.good(name, "is up"),
        _ => findings.remark(
            name,
            "is up and has not seen every object yet",
            format!(
                "if this lasts, see its log: kubectl -n {} logs deployment/{}",
                access.namespace, access.name
            ),
        ),
    }
    Some(found)
}

fn proxied(
    objects: &Objects,
    access: &Access,
    endpoint: &str,
) -> Result<(u16, Vec<u8>), ClusterError> {
    let Access {
        namespace, name, ..
    } = access;
    let service = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let (_, body) = objects.look(&service)?;
    let body: Json = serde_json::from_slice(&body).unwrap_or_default();
    let port = body["spec"]["ports"][0]["name"]
        .as_str()
        .unwrap_or_default();
    objects.look(&format!(
        "/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy/{endpoint}"
    ))
}

fn certificate(objects: &Objects, access: &Access, findings: &mut Findings) -> Option<Certificate> {
    let name = "certificate";
    let pem = match proxied(objects, access, "v1/cert.pem") {
        Ok((200, pem)) => pem,
        Ok((code, body)) => {
            let said: String = String::from_utf8_lossy(&body)
                .trim()
                .chars()
                .take(300)
                .collect();
            let remedy = if code == 503 {
                "do what it says; until then nothing can be sealed, and what is sealed opens"
            } else {
                "see the log of the controller: is there a key that it can use?"
            };
            findings.bad(
                name,
                format!("the controller serves none ({code}): {said}"),
                remedy,
            );
            return None;
        }
        Err(error) => {
            findings.bad(name, error_chain(&error), "try again");
            return None;
        }
    };
    let Ok(certificate) = Certificate::from_pem(&pem) else {
        findings.bad(
            name,
            "what is served is no certificate",
            "see what answers behind the Service",
        );
        return None;
    };
    let until = certificate.not_after().strftime("%Y-%m-%d");
    let title = format!("{}, until {until}", certificate.fingerprint());
    match certificate.validity(jiff::Timestamp::now()) {
        Validity::Valid => findings.good(name, title),
        Validity::Expired => findings.bad(
            name,
            format!("{title}: it has expired"),
            "make a new key: seal keys rotate",
        ),
        Validity::NotYet => findings.bad(
            name,
            format!("{title}: it is not valid yet"),
            "see the clocks, here and there",
        ),
    }
    Some(certificate)
}

/// Best effort: whoever may not read key Secrets sees the rest all the same.
fn key_secrets(
    access: &Access,
    served: Option<&Certificate>,
    findings: &mut Findings,
) -> Vec<KeyRecord> {
    let Ok(records) = KeyStore::cluster(access).and_then(|store| store.read()) else {
        let why = format!("you may not read the Secrets of {}", access.namespace);
        findings.skipped("keys", why);
        return Vec::new();
    };
    let remedy = "restore a backup: seal keys restore BACKUP";
    keys(&records, served, findings, remedy);
    records
}

fn keys(
    records: &[KeyRecord],
    served: Option<&Certificate>,
    findings: &mut Findings,
    remedy: &str,
) {
    let name = "keys";
    let states = record::states(records, served.map(Certificate::fingerprint));
    for record in records {
        if let Err(problem) = &record.key {
            findings.remark(
                name,
                format!("{} cannot be used: {problem}", record.name()),
                remedy,
            );
        }
    }
    let sealing = records
        .iter()
        .zip(&states)
        .find(|(_, state)| **state == KeyState::Sealing);
    let Some((sealing, _)) = sealing else {
        findings.bad(name, "there is none that may seal", remedy);
        return;
    };
    if let Some(served) = served.filter(|c| Some(c.fingerprint()) != sealing.fingerprint()) {
        findings.bad(
            name,
            format!("the controller serves {}, whose key is not among the Secrets", served.fingerprint()),
            "is that the controller of these keys? If so, the key is lost at its next restart: restore a backup",
        );
        return;
    }
    let open = states.iter().filter(|s| {
        matches!(
            s,
            KeyState::Sealing | KeyState::Opening | KeyState::Waiting | KeyState::Compromised
        )
    });
    findings.good(
        name,
        format!("{} open, {} seals", open.count(), sealing.name()),
    );
    let unsaved = records
        .iter()
        .zip(&states)
        .filter(|(r, state)| **state != KeyState::Broken && r.facts.marks.backed_up.is_none());
    let unsaved: Vec<&str> = unsaved.map(|(record, _)| record.name()).collect();
    if !unsaved.is_empty() {
        findings.remark(
            name,
            format!("not backed up: {}", unsaved.join(", ")),
            "seal keys backup ARCHIVE",
        );
    }
}

fn namespaces(objects: &Objects) -> Vec<String> {
    let Ok((200, body)) = objects.look("/api/v1/namespaces?limit=500") else {
        return Vec::new();
    };
    let list: Json = serde_json::from_slice(&body).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Json| item["metadata"]["name"].as_str().map(str::to_owned);
    items.iter().filter_map(name).collect()
}
