//! Installs custom resource definitions.

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use crate::patience;

/// Creates or updates a custom resource definition, and waits until the API server serves each version that the
/// definition marks as served.
pub(super) async fn install(client: Client, definition: &CustomResourceDefinition) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.name_any();
    let apply = PatchParams::apply("tests").force();
    let result = definitions
        .patch(&name, &apply, &Patch::Apply(definition))
        .await;
    result.unwrap_or_else(|error| panic!("cannot create the definition {name}: {error}"));
    for version in definition
        .spec
        .versions
        .iter()
        .filter(|version| version.served)
    {
        let (group, plural) = (&definition.spec.group, &definition.spec.names.plural);
        let path = format!("/apis/{group}/{}/{plural}?limit=1", version.name);
        patience::until(&format!("{path} is served"), async || {
            is_served(&client, &path).await
        })
        .await;
    }
}

async fn is_served(client: &Client, path: &str) -> Option<()> {
    let request = Request::get(path)
        .body(Vec::new())
        .expect("names make a valid path");
    client.request_text(request).await.ok().map(drop)
}
