//! Decide: what is said of how an image was made, as SLSA provenance, and whether somebody who is trusted vouches for it.
//!
//! The statement is in-toto's (v1) with the predicate of SLSA (v1), in an envelope as DSSE defines it, signed with Ed25519. It
//! is about the image's disk and about its record, byte for byte: neither can be exchanged without its being seen.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Record;
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::repository::{lock_file, recipe_file};

/// The file beside the record.
pub const FILE: &str = "provenance.dsse.json";
/// What an envelope holds (in-toto, "Envelope").
const PAYLOAD: &str = "application/vnd.in-toto+json";
/// in-toto's type of statements.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// SLSA's type of predicates.
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What `externalParameters` mean here.
const BUILD: &str = "urn:rekiln:bake:1";
/// How the record is named among the subjects.
const RECORD: &str = "record.json";
/// What is before the 32 bytes of a public Ed25519 key in DER (RFC 8410, section 4).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Whose word an image needs before instances run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Public Ed25519 keys in base 64, as between the lines of `openssl pkey -pubout`; one of them must have signed.
    pub keys: Vec<String>,
    /// The repository that the image must be made from, as `rekiln sign` wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// A signed statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    /// The statement, in base 64.
    payload: String,
    signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    /// The SHA-256 of the key in DER. A hint, which nobody believes.
    keyid: String,
    sig: String,
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A private key. It is printed nowhere.
pub struct PrivateKey(Ed25519KeyPair);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.der()))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let der = BASE64.decode(text.trim()).ok();
        let key =
            der.as_deref().and_then(|der| der.strip_prefix(&PUBLIC)).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no public Ed25519 key such as \"MCowBQYDK2VwAyEA…\" (`openssl pkey -pubout`)"
            )
        })
    }
}

impl PublicKey {
    fn der(self) -> Vec<u8> {
        [PUBLIC.as_slice(), &self.0].concat()
    }

    /// Returns the name by which envelopes call it.
    #[must_use]
    pub fn id(self) -> String {
        Digest::of(&self.der()).to_string()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Reads a key as `openssl genpkey -algorithm ed25519` writes it. Nothing of the text is in an error.
    ///
    /// # Errors
    /// It is another kind of key, or encrypted.
    pub fn read(pem: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::invalid(format!("the key {what}")).hint(
                "make one with `openssl genpkey -algorithm ed25519 -out KEY`, and keep it where no bake runs",
            )
        };
        let body =
            pem.split_once("-----BEGIN PRIVATE KEY-----").and_then(|(_, rest)| rest.split_once("-----END"));
        let Some((body, _)) = body else {
            return Err(wrong(if pem.contains("ENCRYPTED") {
                "is encrypted"
            } else {
                "is not in PEM, as PKCS #8"
            }));
        };
        let text: String = body.split_whitespace().collect();
        let der = BASE64.decode(text).map_err(|_| wrong("is damaged"))?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
        key.map(Self).map_err(|_| wrong("is not an Ed25519 key"))
    }

    /// Returns the key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }
}

/// Returns what is said of an image: `bytes` are those of its record. The same record and repository give the same statement.
#[must_use]
pub fn statement(record: &Record, bytes: &[u8], repository: &str) -> Value {
    let commit = record.commit.as_deref();
    let source =
        commit.map(|commit| json!({ "uri": format!("git+{repository}"), "digest": { "gitCommit": commit } }));
    let lock = json!({
        "uri": lock_file(&record.name), "digest": { "sha256": record.lock.to_string() },
    });
    json!({
        "_type": STATEMENT,
        "subject": [
            { "name": format!("{}/{}/disk.raw", record.name, record.id), "digest": { "sha256": record.disk.sha256.to_string() } },
            { "name": RECORD, "digest": { "sha256": Digest::of(bytes).to_string() } },
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "repository": repository, "commit": commit, "recipe": recipe_file(&record.name), "image": record.id,
                },
                // Whether recipes and locks were those of the commit; those of a nightly run are committed after it.
                "internalParameters": { "clean": record.clean, "debug": record.debug },
                "resolvedDependencies": source.into_iter().chain([lock]).collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": { "id": format!("urn:rekiln:{}", env!("CARGO_PKG_VERSION")) },
                "metadata": { "finishedOn": record.baked },
            },
        },
    })
}

impl Envelope {
    /// Signs a statement. What `before` has is kept where it is of the same statement: several may vouch for an image.
    ///
    /// # Errors
    /// The statement cannot be written.
    pub fn sign(statement: &Value, key: &PrivateKey, before: Option<Self>) -> Result<Self> {
        let payload = serde_json::to_vec(statement).doing(|| "writing the provenance")?;
        let mut envelope = Self {
            payload_type: PAYLOAD.to_owned(),
            payload: BASE64.encode(&payload),
            signatures: Vec::new(),
        };
        if let Some(before) = before.filter(|before| before.payload == envelope.payload) {
            envelope.signatures = before.signatures;
        }
        let keyid = key.public().id();
        envelope.signatures.retain(|signature| signature.keyid != keyid);
        let sig = BASE64.encode(key.0.sign(&encoded(PAYLOAD, &payload)));
        envelope.signatures.push(Signature { keyid, sig });
        Ok(envelope)
    }

    /// Tells why an image is not to be trusted; `bytes` are those of its record.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, record: &Record, bytes: &[u8], trust: &Trust) -> Result<(), String> {
        let keys = trust.keys.iter().map(|key| key.parse()).collect::<Result<Vec<PublicKey>, String>>()?;
        let payload = BASE64.decode(&self.payload).map_err(|_| "its provenance is damaged".to_owned())?;
        let message = encoded(&self.payload_type, &payload);
        let signed =
            self.signatures.iter().filter_map(|signature| BASE64.decode(&signature.sig).ok()).any(|sig| {
                keys.iter().any(|key| UnparsedPublicKey::new(&ED25519, key.0).verify(&message, &sig).is_ok())
            });
        if !signed {
            return Err(
                "its provenance is signed by no key that `trust.keys` names, or was changed after it"
                    .to_owned(),
            );
        }
        // From here on somebody who is trusted said it; whether it is about this image is another question.
        let said: Value =
            serde_json::from_slice(&payload).map_err(|_| "its provenance is no JSON".to_owned())?;
        if self.payload_type != PAYLOAD || said["_type"] != STATEMENT || said["predicateType"] != PREDICATE {
            return Err("what is signed is no SLSA provenance".to_owned());
        }
        let build = &said["predicate"]["buildDefinition"];
        let given = &build["externalParameters"];
        if build["buildType"] != BUILD || given["image"] != record.id.to_string() {
            return Err("its provenance is that of another image".to_owned());
        }
        let empty = Vec::new();
        let subjects = said["subject"].as_array().unwrap_or(&empty);
        let about =
            |digest: Digest| subjects.iter().any(|subject| subject["digest"]["sha256"] == digest.to_string());
        if !about(record.disk.sha256) {
            return Err("its provenance is about another disk".to_owned());
        }
        if !about(Digest::of(bytes)) {
            return Err("its record was changed after it was signed".to_owned());
        }
        match &trust.repository {
            Some(wanted) if given["repository"] != wanted.as_str() => Err(format!(
                "it was made from {}, and `trust.repository` is {wanted}",
                given["repository"].as_str().unwrap_or("no repository")
            )),
            _ => Ok(()),
        }
    }

    /// Returns the names of the keys that are said to have signed.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.keyid.as_str())
    }
}

/// What is signed (DSSE, "Protocol": pre-authentication encoding).
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::record;
    use super::*;

    /// A key as openssl writes it, of these 32 bytes.
    fn key(seed: u8) -> PrivateKey {
        // RFC 8410, section 7.
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let der = [head.as_slice(), &[seed; 32]].concat();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der));
        PrivateKey::read(&pem).expect("a key")
    }

    fn trust(keys: &[&PrivateKey], repository: Option<&str>) -> Trust {
        Trust {
            keys: keys.iter().map(|key| key.public().to_string()).collect(),
            repository: repository.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_signed_is_as_dsse_says() {
        // The example of the protocol's description.
        let text = encoded("http://example.com/HelloWorld", b"hello world");
        assert_eq!(text, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        // RFC 8032, section 7.1, test 1: the key of this seed.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).expect("hex")).collect();
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let der = BASE64.encode([head.as_slice(), &bytes].concat());
        let read =
            PrivateKey::read(&format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"));
        let public = read.expect("a key").public();
        assert_eq!(public.0[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(public.to_string().parse(), Ok(public));
        assert!("MCowBQYDK2VwAyEA".parse::<PublicKey>().is_err());
    }

    #[test]
    fn whatever_is_changed_is_seen() {
        let (ours, theirs) = (key(1), key(2));
        let record = record("ab", "web", 1);
        let bytes = serde_json::to_vec_pretty(&record).expect("JSON");
        let said = statement(&record, &bytes, "https://git.example.com/images");
        let good = Envelope::sign(&said, &ours, None).expect("signed");
        let all = trust(&[&theirs, &ours], Some("https://git.example.com/images"));
        assert_eq!(good.check(&record, &bytes, &all), Ok(()));
        assert_eq!(good.check(&record, &bytes, &trust(&[&ours], None)), Ok(()));

        let mut other_disk = record.clone();
        other_disk.disk.sha256 = Digest::of(b"another disk");
        let other_id = super::super::Record { id: Digest::of(b"another"), ..record.clone() };
        let verdict = super::super::Record { clean: !record.clean, ..record.clone() };
        let changed = serde_json::to_vec_pretty(&verdict).expect("JSON");
        let mut payload = good.clone();
        payload.payload =
            BASE64.encode(serde_json::to_vec(&statement(&other_disk, &bytes, "x")).expect("JSON"));
        let mut kind = good.clone();
        kind.payload_type = "text/plain".to_owned();
        let mut none = good.clone();
        none.signatures.clear();
        let resigned = Envelope::sign(&statement(&record, &bytes, "https://evil.example.com"), &ours, None)
            .expect("signed");
        let alien = Envelope::sign(&json!({ "_type": STATEMENT, "predicateType": "else" }), &ours, None)
            .expect("signed");
        for (what, envelope, record, bytes, trust, words) in [
            ("another key", &good, &record, &bytes, trust(&[&theirs], None), "signed by no key"),
            ("no key", &good, &record, &bytes, trust(&[], None), "signed by no key"),
            ("no signature", &none, &record, &bytes, all.clone(), "signed by no key"),
            ("another payload", &payload, &record, &bytes, all.clone(), "signed by no key"),
            ("another type", &kind, &record, &bytes, all.clone(), "signed by no key"),
            ("another predicate", &alien, &record, &bytes, all.clone(), "no SLSA provenance"),
            ("another disk", &good, &other_disk, &bytes, all.clone(), "about another disk"),
            ("another image", &good, &other_id, &bytes, all.clone(), "that of another image"),
            ("another record", &good, &record, &changed, all.clone(), "was changed after it was signed"),
            (
                "another repository",
                &resigned,
                &record,
                &bytes,
                all.clone(),
                "it was made from https://evil.example.com",
            ),
        ] {
            let why = envelope.check(record, bytes, &trust).expect_err(what);
            assert!(why.contains(words), "{what}: {why}");
        }
    }

    #[test]
    fn several_may_vouch_for_one_image_and_the_same_statement_is_the_same_bytes() {
        let (ours, theirs) = (key(1), key(2));
        let record = record("ab", "web", 1);
        let bytes = serde_json::to_vec_pretty(&record).expect("JSON");
        let said = statement(&record, &bytes, "x");
        let one = Envelope::sign(&said, &ours, None).expect("signed");
        let both = Envelope::sign(&said, &theirs, Some(one.clone())).expect("signed");
        assert_eq!(both.signers().collect::<Vec<_>>(), [ours.public().id(), theirs.public().id()]);
        assert_eq!(Envelope::sign(&said, &ours, Some(one.clone())).expect("signed"), one);
        let moved_on = Envelope::sign(&statement(&record, &bytes, "y"), &ours, Some(both)).expect("signed");
        assert_eq!(moved_on.signers().count(), 1, "what was said before is not said of this");
    }

    #[test]
    fn other_keys_are_refused_and_never_shown() {
        for (text, words) in [
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "is encrypted",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n",
                "is not in PEM, as PKCS #8",
            ),
            ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "is not an Ed25519 key"),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "is damaged"),
        ] {
            let error = PrivateKey::read(text).expect_err("none").chain();
            assert!(error.contains(words) && !error.contains("c2VjcmV0"), "{error}");
        }
        assert_eq!(format!("{:?}", key(1)), "PrivateKey { .. }");
    }
}
