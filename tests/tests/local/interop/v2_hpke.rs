//! Tests the suites of v2 against Go's `crypto/hpke`, in both directions.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use rand::{CryptoRng, SeedableRng as _, rngs::StdRng};
use serde_json::{Value as Json, json};
use shared::meter::Unmetered;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::Scope;
use shared::v2::{
    self, Binding, Checked, DataKey, KeyId, LockSpec, OpenedLocks, Opener, Place, Policy,
    Recipient, SecretKey, Suite, Target, Unavailable, Value,
};
use tests::go_build;

/// The running Go program, which responds to each line with a line.
struct Oracle(Mutex<(Child, BufReader<ChildStdout>)>);

static ORACLE: LazyLock<Oracle> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("v2-oracle");
    let program = go_build::build(&source, ".", "v2-oracle");
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let responses = BufReader::new(child.stdout.take().unwrap());
    Oracle(Mutex::new((child, responses)))
});

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let append = |text: String, byte: &u8| text + &format!("{byte:02x}");
    bytes.iter().fold(String::new(), append)
}

pub(super) fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

impl Oracle {
    /// Returns the bytes of the response, or `None` if Go refuses.
    fn ask(&self, request: &Json) -> Option<Vec<u8>> {
        let mut process = self.0.lock().unwrap();
        let requests = process.0.stdin.as_mut().unwrap();
        writeln!(requests, "{request}").unwrap();
        requests.flush().unwrap();
        let mut line = String::new();
        process.1.read_line(&mut line).unwrap();
        let response: Json = serde_json::from_str(&line).unwrap();
        let is_refused = response["error"] != "";
        (!is_refused).then(|| from_hex(response["bytes"].as_str().unwrap()))
    }
}

/// A key whose operations the Go program performs.
struct GoKey {
    suite: Suite,
    private: [u8; 32],
    public: Vec<u8>,
    id: KeyId,
}

impl GoKey {
    fn new(suite: Suite, private: [u8; 32]) -> Self {
        let recipient = SecretKey::from_bytes(suite, &private).unwrap().recipient();
        let request =
            json!({"operation": "public", "suite": suite.to_string(), "key": to_hex(&private)});
        let public = ORACLE.ask(&request).unwrap();
        assert_eq!(public, recipient.to_bytes(), "{suite}");
        let id = recipient.key_id();
        Self {
            suite,
            private,
            public,
            id,
        }
    }

    fn request(&self, operation: &str, key: &[u8], binding: &Binding<'_>, message: &[u8]) -> Json {
        json!({
            "operation": operation,
            "suite": self.suite.to_string(),
            "key": to_hex(key),
            "info": to_hex(&binding.info(self.suite)),
            "aad": to_hex(&binding.associated_data(&self.id)),
            "message": to_hex(message),
        })
    }
}

impl Recipient for GoKey {
    fn suite(&self) -> Suite {
        self.suite
    }

    fn key_id(&self) -> KeyId {
        self.id
    }

    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        _: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        ORACLE.ask(&self.request("seal", &self.public, binding, key.expose()))
    }
}

impl Opener for GoKey {
    fn suite(&self) -> Suite {
        self.suite
    }

    fn key_id(&self) -> KeyId {
        self.id
    }

    fn cost(&self) -> u64 {
        0
    }

    fn unwrap_key(
        &self,
        wrapped: &[u8],
        binding: &Binding<'_>,
    ) -> Result<Option<DataKey>, Unavailable> {
        let opened = ORACLE.ask(&self.request("open", &self.private, binding, wrapped));
        Ok(opened.and_then(|opened| DataKey::from_slice(&opened)))
    }
}

fn seal_for(recipient: &dyn Recipient, rng: &mut StdRng) -> SealedSecret {
    let place = Place::for_sealing(Scope::Strict, "shop", "db").unwrap();
    let spec = LockSpec {
        place: &place,
        recipients: &[recipient],
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: 1,
    };
    let value = Value::new(Plain::from(b"hunter2".to_vec()), rng);
    let values = BTreeMap::from([("password".to_owned(), value)]);
    let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
    sealed.metadata.namespace = Some("shop".into());
    sealed.spec.encrypted_data = v2::seal(&spec, &values, rng).unwrap();
    sealed
}

fn open_with(sealed: &SealedSecret, key: &dyn Opener) -> Vec<u8> {
    let checked = Checked::new(sealed, &Policy::default(), Target::Secret).unwrap();
    let keys = [key].into_iter().collect();
    let (opened, rng) = (&mut OpenedLocks::default(), &mut StdRng::seed_from_u64(4));
    let opened = v2::open(&checked, &keys, opened, &mut Unmetered, rng).unwrap();
    opened["password"].value.plain.expose().to_vec()
}

#[test]
fn each_implementation_unwraps_keys_that_the_other_wraps() {
    let mut rng = StdRng::seed_from_u64(1);
    for suite in [Suite::XWing, Suite::P256] {
        for number in 1..=8 {
            let go = GoKey::new(suite, [number; 32]);
            let rust = SecretKey::from_bytes(suite, &[number; 32]).unwrap();
            for sealed in [
                seal_for(&rust.recipient(), &mut rng),
                seal_for(&go, &mut rng),
            ] {
                assert_eq!(open_with(&sealed, rust.opener()), b"hunter2");
                assert_eq!(open_with(&sealed, &go), b"hunter2");
            }
        }
    }
}
