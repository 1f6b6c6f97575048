//! The audiences of a token, and when it expires. A `TokenReview` returns only the requested audiences and no time, so
//! both are read from the token itself.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::base64;

/// The claims that are read from a JSON Web Token, whose signature the API server has verified.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audiences,
}

/// The claim with the time of expiry. Parsed separately from [`Claims`], so that an invalid time does not hide the
/// audiences.
#[derive(Deserialize)]
struct Expiry {
    exp: serde_json::Number,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Returns whether an accepted token names an audience besides `expected`. Returns false if the claims cannot be read,
/// as for a token that is not a JSON Web Token.
pub(super) fn has_another_audience(token: &str, expected: &str) -> bool {
    let is_other = |audience: &String| audience != expected;
    match claims::<Claims>(token).map(|claims| claims.aud) {
        Some(Audiences::One(audience)) => is_other(&audience),
        Some(Audiences::Many(audiences)) => audiences.iter().any(is_other),
        None => false,
    }
}

/// Returns when an accepted token expires; `None` if it is not a JSON Web Token, does not expire, or has an invalid
/// time.
pub(super) fn expiry(token: &str) -> Option<Timestamp> {
    let Expiry { exp } = claims(token)?;
    Timestamp::from_second(exp.as_i64()?).ok()
}

fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let [_, claims, _] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
    let mut standard = claims.replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    serde_json::from_slice(&base64::decode(standard.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(claims: &Value) -> String {
        let encode = |json: &Value| {
            let text = base64::encode(json.to_string().as_bytes());
            text.trim_end_matches('=')
                .replace('+', "-")
                .replace('/', "_")
        };
        format!(
            "{}.{}.c2lnbmF0dXJl",
            encode(&json!({ "alg": "RS256" })),
            encode(claims)
        )
    }

    /// Attack: a program that receives a token for the API server, or for another program, sends it to the controller
    /// to act as the token's owner.
    #[test]
    fn recognizes_tokens_for_another_audience() {
        for (audience, want) in [
            (json!("us"), false),
            (json!(["us"]), false),
            (json!(["us", "us"]), false),
            (json!("other"), true),
            (json!(["us", "other"]), true),
            (json!(["https://kubernetes.default.svc", "us"]), true),
            (json!(["us", ""]), true),
            (json!([]), false),
        ] {
            for padding in ["", "ÿ", "ÿÿ", "~~~?"] {
                let token = token(&json!({ "aud": audience, "sub": padding }));
                assert_eq!(
                    has_another_audience(&token, "us"),
                    want,
                    "{audience} {padding}"
                );
            }
        }
    }

    #[test]
    fn finds_no_audience_in_text_that_is_not_a_json_web_token() {
        for token in [
            "", "static", "a.b", "a.b.c.d", "a.!!.c", "a.bm8.c", "..", "a.W10.c",
        ] {
            assert!(!has_another_audience(token, "us"), "{token}");
        }
    }
}
