//! Tokens: JWTs signed with Ed25519 by a key of this installation, which is made on the first start and never leaves
//! its file. A token names a bearer whom the company's ledger knows, and is good only as long as the ledger says so: see
//! [`issuing`](crate::issuing).

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use cnc_commands::{cache::Recent, keyring::key_file};
use cnc_domain::{
    cloud_control::tokens::TokenId,
    kernel::{CompanyId, LocationId, Timestamp},
    ledger::Fault,
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::principal::Principal;

/// Who issues these tokens.
pub const ISSUER: &str = "cnc";
/// What they are good for.
pub const AUDIENCE: &str = "cnc-api";
/// The key's file in the data folder.
pub const KEY_FILE: &str = "token.key";
const READING: &str = "reading the token key";
/// A token longer than this is not looked at.
const LENGTH_MAX: usize = 8 * 1024;
/// How many tokens are remembered whose signature is good.
const GOOD_MAX: usize = 10_000;

/// What a token says of its bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Its id, by which the ledger knows it.
    pub jti: TokenId,
    /// Who.
    pub sub: Principal,
    /// Of which company. A token is good for one company only.
    pub company: CompanyId,
    /// In which role.
    pub role: String,
    /// In which branches; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locations: Option<BTreeSet<LocationId>>,
    /// Until when, in seconds since the epoch.
    pub exp: i64,
    /// From when on, where that is later than when it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When it was issued.
    pub iat: i64,
    /// By whom: always [`ISSUER`].
    pub iss: String,
    /// What for: always [`AUDIENCE`].
    pub aud: String,
}

impl Claims {
    /// Claims of a token from `now` until it expires.
    pub fn new(
        jti: TokenId,
        sub: Principal,
        company: CompanyId,
        role: &str,
        (now, expires): (Timestamp, Timestamp),
    ) -> Self {
        let (iss, aud) = (ISSUER.to_owned(), AUDIENCE.to_owned());
        let (iat, exp) = (seconds(now), seconds(expires));
        Self { jti, sub, company, role: role.to_owned(), locations: None, exp, nbf: None, iat, iss, aud }
    }

    /// The same for these branches only.
    #[must_use]
    pub fn within(mut self, locations: impl IntoIterator<Item = LocationId>) -> Self {
        self.locations = Some(locations.into_iter().collect());
        self
    }

    /// Whether it is good at this time, as far as it says itself.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.expires() && self.nbf.is_none_or(|begins| now >= Timestamp::from_seconds(begins))
    }

    /// The first moment at which the token is no longer good.
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_seconds(self.exp)
    }
}

/// Whole seconds since the epoch, as JWTs count.
fn seconds(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

/// Issues and checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Keys>);

struct Keys {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
    /// Tokens whose signature was found good, by their whole text: a browser sends the same one again and again.
    good: Mutex<Recent<String, Arc<Claims>>>,
}

impl Tokens {
    /// The key in this file, made first where there is none. Beside companies that says that a key was lost, and signs
    /// everybody out: the log tells.
    pub fn open(path: &Path, companies: bool) -> Result<Self, Fault> {
        if let Some(text) = key_file::load(READING, path)? {
            return Self::read(&text).map_err(|wrong| key_file::unreadable(READING, path, &text, wrong));
        }
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let key = BASE64.encode(key.map_err(|cause| Fault::broken("making the token key", cause))?);
        let text = key_file::create(READING, path, &key)?;
        if companies {
            tracing::warn!(file = %path.display(), "the key that signs tokens was missing and is made anew: every token that \
                was issued before is refused, and everybody is signed out. Where other processes have the former key, put it here");
        }
        Self::read(&text)
    }

    fn read(text: &str) -> Result<Self, Fault> {
        Self::from_pkcs8(&BASE64.decode(text.trim()).map_err(|cause| Fault::broken(READING, cause))?)
    }

    fn from_pkcs8(key: &[u8]) -> Result<Self, Fault> {
        let pair = Ed25519KeyPair::from_pkcs8(key).map_err(|cause| Fault::broken(READING, cause))?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
        // Times are checked here against the caller's clock: without leeway, and testable.
        validation.validate_exp = false;
        Ok(Self(Arc::new(Keys {
            signing: EncodingKey::from_ed_der(key),
            checking: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            validation,
            good: Mutex::new(Recent::new(GOOD_MAX)),
        })))
    }

    /// Signs claims.
    pub fn issue(&self, claims: &Claims) -> Result<String, Fault> {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.0.signing)
            .map_err(|cause| Fault::broken("signing a token", cause))
    }

    /// What a token says, where it is ours and still good.
    pub fn check(&self, token: &str, now: Timestamp) -> Option<Arc<Claims>> {
        if token.len() > LENGTH_MAX {
            return None;
        }
        let good = || self.0.good.lock().unwrap_or_else(PoisonError::into_inner);
        let known = good().get(token);
        let claims = if let Some(claims) = known {
            claims
        } else {
            let decoded = jsonwebtoken::decode::<Claims>(token, &self.0.checking, &self.0.validation).ok()?;
            // What a token says must be understood, is not understood here.
            if decoded.header.crit.is_some() {
                return None;
            }
            let claims = Arc::new(decoded.claims);
            good().put(token.to_owned(), claims.clone());
            claims
        };
        claims.is_good(now).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::Id;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn fresh() -> Tokens {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("generates");
        Tokens::from_pkcs8(key.as_ref()).expect("is a key")
    }

    fn claims() -> Claims {
        let (bearer, until) = (Principal::User(Id::number(1)), Timestamp::from_seconds(1_800_000_060));
        let claims = Claims::new(Id::number(9), bearer, CompanyId::number(2), "dispatcher", (NOW, until));
        claims.within([LocationId::number(3)])
    }

    /// Whether a token with this header and these claims, rightly signed, is taken.
    fn takes(header: &Value, claims: &Value) -> bool {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("generates");
        let tokens = Tokens::from_pkcs8(key.as_ref()).expect("is a key");
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let signed = [header, claims].map(|part| url.encode(part.to_string())).join(".");
        let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("is a key");
        let signature = url.encode(pair.sign(signed.as_bytes()));
        tokens.check(&format!("{signed}.{signature}"), NOW).is_some()
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_expires() {
        let tokens = fresh();
        let token = tokens.issue(&claims()).expect("signs");
        assert_eq!(tokens.check(&token, NOW).as_deref(), Some(&claims()));
        assert_eq!(tokens.check(&token, Timestamp::from_seconds(1_800_000_059)).as_deref(), Some(&claims()));
        assert_eq!(tokens.check(&token, Timestamp::from_seconds(1_800_000_060)), None);
    }

    #[test]
    fn a_token_of_another_installation_or_with_a_changed_byte_is_no_token() {
        let tokens = fresh();
        let token = fresh().issue(&claims()).expect("signs");
        assert_eq!(tokens.check(&token, NOW), None);
        let token = tokens.issue(&claims()).expect("signs");
        let (signed, signature) = token.rsplit_once('.').expect("has a signature");
        let (header, payload) = signed.split_once('.').expect("has a payload");
        let other = payload.replace(['A', 'a'], "b");
        assert_eq!(tokens.check(&format!("{header}.{other}.{signature}"), NOW), None);
        assert_eq!(tokens.check("", NOW), None);
    }

    #[test]
    fn an_unsigned_token_is_no_token() {
        let body = serde_json::to_vec(&claims()).expect("writes");
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        for algorithm in ["none", "HS256"] {
            let header = url.encode(format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#));
            assert_eq!(fresh().check(&format!("{header}.{}.", url.encode(&body)), NOW), None);
        }
    }

    #[test]
    fn a_token_that_says_what_is_not_understood_is_no_token() {
        let (header, good) = (json!({ "alg": "EdDSA", "typ": "JWT" }), serde_json::to_value(claims()).expect("writes"));
        assert!(takes(&header, &good));
        let with = |value: &Value, name: &str, member: Value| {
            let mut value = value.clone();
            value[name] = member;
            value
        };
        for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("exp")] {
            assert!(!takes(&with(&header, "crit", crit.clone()), &good), "crit {crit}");
        }
        for alg in ["none", "HS256", "ES256", "RS256"] {
            assert!(!takes(&with(&header, "alg", json!(alg)), &good), "{alg}");
        }
        let exp = claims().exp;
        let texts = [("exp", json!(exp.to_string())), ("exp", json!(1.9e9)), ("exp", json!(null)), ("exp", json!(-1))];
        let others =
            [("iss", "other"), ("aud", "other"), ("sub", "0192"), ("jti", "1")].map(|(name, text)| (name, json!(text)));
        for (name, value) in texts.into_iter().chain(others) {
            assert!(!takes(&header, &with(&good, name, value.clone())), "{name} {value}");
        }
        for name in ["aud", "company", "exp", "iss", "jti", "sub"] {
            let mut claims = good.clone();
            claims.as_object_mut().expect("is an object").remove(name);
            assert!(!takes(&header, &claims), "no {name}");
        }
    }

    #[test]
    fn a_token_is_good_from_when_it_says() {
        let header = json!({ "alg": "EdDSA", "typ": "JWT" });
        for (nbf, good) in [(json!(1_800_000_000), true), (json!(1_800_000_001), false), (json!("1800000000"), false)] {
            let mut claims = serde_json::to_value(claims()).expect("writes");
            claims["nbf"] = nbf.clone();
            assert_eq!(takes(&header, &claims), good, "{nbf}");
        }
    }

    #[test]
    fn the_key_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(KEY_FILE);
        let token = Tokens::open(&path, false).expect("makes a key").issue(&claims()).expect("signs");
        assert!(Tokens::open(&path, true).expect("reads it").check(&token, NOW).is_some());
    }
}
