//! `/v1/verify` and `/v1/rotate`.
//!
//! Whoever reaches these may send any ciphertext that stands in a public repository, under any name
//! and with any template. So they render no template, take the scope from the object itself, and say
//! no more about what does not open than that it does not.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::key_ring::KeyRing;
use shared::manifest;
use shared::reseal::{ResealError, reseal};
use shared::resource::SealedSecret;
use shared::unseal::check;

use super::Context;
use super::refused::Refused;

/// A Secret of a mebibyte rarely has a hundred.
const MOST_ITEMS: usize = 1000;

/// 200 if it opens here, 409 if it does not.
pub(super) async fn verify(
    State(context): State<Context>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let legacy = context.desk.accept_legacy;
    let work = move |bytes: &[u8], ring: &KeyRing| {
        let (objects, is_list) = objects(bytes)?;
        let ([sealed], false) = (objects.as_slice(), is_list) else {
            return Err(Refused::Malformed);
        };
        check(sealed, ring, legacy).map_err(|_| Refused::Closed)
    };
    answer(context, "/v1/verify", &headers, body, work).await
}

/// The same SealedSecret, or `List` of some, sealed for the newest key; 409 if one does not open.
pub(super) async fn rotate(
    State(context): State<Context>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let legacy = context.desk.accept_legacy;
    let work = move |bytes: &[u8], ring: &KeyRing| {
        let (objects, is_list) = objects(bytes)?;
        let rotate_one = |sealed| match reseal(sealed, ring, legacy, &mut rand::rng()) {
            Ok(resealed) => Ok(resealed.sealed.to_document()),
            Err(ResealError::Unseal(_)) => Err(Refused::Closed),
            Err(ResealError::NoCertificate | ResealError::Seal(_)) => Err(Refused::NoCertificate),
        };
        let rotated: Vec<Value> = objects.iter().map(rotate_one).collect::<Result<_, _>>()?;
        Ok(as_json(&document(rotated, is_list)))
    };
    answer(context, "/v1/rotate", &headers, body, work).await
}

async fn answer<T: IntoResponse + Send + 'static>(
    Context { facts, desk }: Context,
    path: &'static str,
    headers: &HeaderMap,
    body: Body,
    work: impl FnOnce(&[u8], &KeyRing) -> Result<T, Refused> + Send + 'static,
) -> Response {
    let (ticket, admitted) = desk.admit(path, headers, Timestamp::now());
    let answer = async {
        admitted?;
        let bytes = desk.read(body).await?;
        let ring: Arc<KeyRing> = Arc::clone(&facts.ring.borrow());
        desk.work(move || work(&bytes, &ring)).await
    };
    ticket.mark(answer.await.into_response())
}

/// The objects, and whether they stand in a list.
fn objects(bytes: &[u8]) -> Result<(Vec<SealedSecret>, bool), Refused> {
    let documents = manifest::read(bytes).map_err(|_| Refused::Malformed)?;
    let [document] = documents.as_slice() else {
        return Err(Refused::Malformed);
    };
    let read = SealedSecret::all_from_document(document);
    let (objects, _) = read.map_err(|_| Refused::Malformed)?;
    let items = |sealed: &SealedSecret| sealed.spec.encrypted_data.len();
    if objects.iter().map(items).sum::<usize>() > MOST_ITEMS {
        return Err(Refused::TooManyItems);
    }
    let nodes = document.root.list_items(&["List", "SealedSecretList"]);
    let is_single =
        matches!(nodes.as_slice(), [one] if std::ptr::eq(*one, &raw const document.root));
    Ok((objects, !is_single))
}

fn document(mut objects: Vec<Value>, is_list: bool) -> Value {
    match objects.pop() {
        Some(one) if !is_list => one,
        last => {
            objects.extend(last);
            json!({ "kind": "List", "apiVersion": "v1", "items": objects })
        }
    }
}

fn as_json(document: &Value) -> impl IntoResponse + use<> {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, document.to_string())
}
