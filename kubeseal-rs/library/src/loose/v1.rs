//! Finds v1 values in a text. A v1 value is base64. It begins with the modulus length of its key, in two bytes. Random
//! bytes can begin in the same way, so each rule here limits how often other base64 is mistaken for a sealed value.

use shared::base64;

use super::SealedValues;

/// The length of the shortest v1 value, for a key of 2048 bits, in characters without padding.
const MIN_LEN: usize = 366;
/// The length of the length field at the start, in bytes.
const LENGTH_LEN: usize = 2;
/// The length of an AES-GCM tag, in bytes.
const TAG_LEN: usize = 16;
/// Up to this length, the text before `/` or `+` is arbitrary. A longer text must not look like base64.
const MAX_PREFIX_LEN: usize = 64;
/// The text before a value that SOPS encrypted. The value itself is random.
const SOPS_PREFIX: &[u8] = b"ENC[AES256_GCM,data:";

/// The modulus lengths that are accepted.
#[derive(Clone, Copy)]
enum Lengths {
    /// All lengths of keys that can be loaded, and multiples of 512 bits up to 16384 bits.
    All,
    /// Of [`Self::All`], the multiples of 128 bits: for positions where random base64 is likely.
    Usual,
}

impl Lengths {
    /// Returns whether this is an accepted length, in bytes.
    fn contain(self, len: usize) -> bool {
        let step = match (self, len) {
            (_, 1025..=2048) => 64,
            (Self::All, 256..=1024) => 1,
            (Self::Usual, 256..=1024) => 16,
            _ => return false,
        };
        len.is_multiple_of(step)
    }
}

/// Returns the position of the first v1 value. Takes linear time.
pub(super) fn first(bytes: &[u8], values: &SealedValues) -> Option<usize> {
    let mut position = 0;
    // `=` ends a run, so a value may follow it.
    for run in bytes.split(|byte| !is_digit(*byte)) {
        if run.len() >= MIN_LEN && !values.has_prefix(run) {
            let is_sops = bytes[..position].ends_with(SOPS_PREFIX);
            let lengths = if is_sops {
                Lengths::Usual
            } else {
                Lengths::All
            };
            if let Some(start) = start_in_run(run, lengths, values) {
                return Some(position + start);
            }
        }
        position += run.len() + 1;
    }
    None
}

/// Returns the position of a value in a run of base64 digits. As `/` and `+` are digits, a value may follow a path.
fn start_in_run(run: &[u8], lengths: Lengths, values: &SealedValues) -> Option<usize> {
    if is_sealed(run, lengths) && !is_from_aws(run) {
        return Some(0);
    }
    if is_der(run) {
        return None;
    }
    let start = inner_starts(run).find(|start| is_sealed(&run[*start..], Lengths::Usual))?;
    // If `values` has this prefix, the rest of the run is a value of a SealedSecret.
    (!values.has_prefix(&run[start..])).then_some(start)
}

/// Returns the positions after `/` and `+`. Stops where the text so far is too long for a path and contains capital
/// letters, small letters and digits, as base64 does: in long random base64, some positions look like a value.
fn inner_starts(run: &[u8]) -> impl Iterator<Item = usize> {
    let (mut has_upper, mut has_lower, mut has_digit) = (false, false, false);
    let bytes = run.iter().enumerate().take_while(move |(i, byte)| {
        has_upper |= byte.is_ascii_uppercase();
        has_lower |= byte.is_ascii_lowercase();
        has_digit |= byte.is_ascii_digit();
        *i < MAX_PREFIX_LEN || !(has_upper && has_lower && has_digit)
    });
    bytes
        .filter(|(_, byte)| b"/+".contains(byte))
        .map(|(i, _)| i + 1)
}

/// Returns whether the text begins with an accepted length and is long enough for the RSA block and the tag. Takes
/// constant time. Anything may follow the value, so the text need not end as base64 does.
fn is_sealed(text: &[u8], lengths: Lengths) -> bool {
    // Up to 16384 bits, the first byte is at most 8.
    if !matches!(text.first(), Some(b'A'..=b'C')) {
        return false;
    }
    let len = announced_len(text).unwrap_or_default();
    lengths.contain(len) && byte_len(text) >= LENGTH_LEN + len + TAG_LEN
}

fn announced_len(text: &[u8]) -> Option<usize> {
    let start = base64::decode(text.get(..4)?).ok()?;
    let (length, _) = start.split_first_chunk::<LENGTH_LEN>()?;
    Some(usize::from(u16::from_be_bytes(*length)))
}

/// Returns the number of bytes that these base64 digits encode.
fn byte_len(digits: &[u8]) -> usize {
    digits.len() * 3 / 4
}

/// Returns whether the text is a certificate, a key or another DER structure of exactly this length. Many of them
/// contain random bytes near the start.
fn is_der(text: &[u8]) -> bool {
    let header = text.get(..8).and_then(|text| base64::decode(text).ok());
    match header.as_deref() {
        Some([0x30, 0x82, high, low, ..]) => {
            byte_len(text) == 4 + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// Returns whether the text begins like a ciphertext of AWS KMS or a message of the AWS Encryption SDK. Both begin like
/// a value for a key of an unusual length. A sealed value continues with random bytes, so it does not begin like this.
fn is_from_aws(text: &[u8]) -> bool {
    let start = text.get(..340).and_then(|text| base64::decode(text).ok());
    match start.as_deref() {
        Some([1, 1 | 2, 2, 0, 0x78, ..]) => true,
        Some(message @ [2, 4 | 5, 0x78, ..]) => memchr::memmem::find(message, b"aws-").is_some(),
        _ => false,
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn random_bytes(len: usize, rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Returns a value for a key with a modulus of this length, with a random block.
    fn value(modulus_len: u16, seed: u64) -> String {
        let len = usize::from(modulus_len) + TAG_LEN + 10;
        let body = random_bytes(len, &mut StdRng::seed_from_u64(seed));
        base64::encode(&[&modulus_len.to_be_bytes()[..], &body].concat())
    }

    fn find(text: &str) -> Option<usize> {
        first(text.as_bytes(), &SealedValues::from_objects(&[]))
    }

    fn values_of(value: &str) -> SealedValues {
        let mut sealed = shared::resource::SealedSecret::new(
            "db",
            shared::resource::SealedSecretSpec::default(),
        );
        let entries = &mut sealed.spec.encrypted_data;
        entries.insert("a".into(), value.to_owned());
        SealedValues::from_objects(&[&sealed])
    }

    /// Attack: an author writes a value as an argument of a command or in a path, so that commands overlook it.
    #[test]
    fn finds_a_value_after_an_equals_sign_or_a_path() {
        let value = value(256, 1);
        for prefix in [
            "run: helm upgrade shop chart --set db.password=",
            "- password=",
            "a==",
            "- path/",
            "- https://host/a1/B2/",
            "- /",
            "- a+",
            "- +/+/",
        ] {
            for suffix in ["", "/", "/more", "=", " b", ",c=d"] {
                let text = format!("{prefix}{value}{suffix}\n");
                assert_eq!(find(&text), Some(prefix.len()), "{text}");
            }
        }
        let long_path = "directory/".repeat(20);
        assert_eq!(find(&format!("{long_path}{value}")), Some(long_path.len()));
    }

    /// Fault: a controller has a key whose size is no multiple of 512 bits.
    #[test]
    fn finds_values_of_keys_of_all_sizes() {
        for len in (256..=1024).chain((1024..=2048).step_by(64)) {
            let value = value(len, u64::from(len));
            assert_eq!(find(&format!("a: {value}\n")), Some(3), "{len}");
            let end = (usize::from(len) + LENGTH_LEN + TAG_LEN) * 4 / 3 - 2;
            assert!(!is_sealed(&value.as_bytes()[..end], Lengths::All), "{len}");
        }
        for len in [0, 128, 255, 1025, 2047, 2049, 2112] {
            let value = value(len, 1);
            assert!(!is_sealed(value.as_bytes(), Lengths::All), "{len}");
        }
    }

    proptest! {
        #[test]
        fn finds_a_value_in_any_text(
            before in "\\PC{0,40}",
            after in "\\PC{0,40}",
            ends in ("[ =/:,;\"'(){}<>|@ü]", "[ =/:,;\"'(){}<>|@ü]"),
            modulus_len in 256_u16..=1024,
            seed: u64,
        ) {
            // A path can be random base64, in which only usual lengths are accepted.
            let modulus_len = if ends.0 == "/" { modulus_len / 16 * 16 } else { modulus_len };
            let value = value(modulus_len, seed);
            let text = format!("{before}{}{value}{}{after}", ends.0, ends.1);
            prop_assert!(find(&text).is_some(), "{}", text);
        }
    }

    /// Returns how many of 2,000 base64 texts are mistaken for sealed values, with this start and random bytes.
    fn count_mistaken(start: &[u8], len: usize, context: &str) -> usize {
        let rng = &mut StdRng::seed_from_u64(7);
        let mut text = || {
            let bytes = [start, &random_bytes(len, rng)].concat();
            format!("a: {context}{}\n", base64::encode(&bytes))
        };
        (0..2000).filter(|_| find(&text()).is_some()).count()
    }

    /// Fault: files contain images, archives, certificates or values that other programs encrypted, and commands refuse
    /// to retire a key because of them.
    #[test]
    fn mistakes_little_other_base64_for_sealed_values() {
        let kms_start = [1, 2, 2, 0, 0x78];
        let sdk_start = [
            &[2, 5, 0x78][..],
            &[9; 32],
            b"\0\x5f\0\x01\0\x15aws-crypto-public-key",
        ];
        for (why, start, len, max) in [
            ("random bytes", &b""[..], 3000, 60),
            ("short random bytes", b"", 250, 0),
            (
                "a PNG image",
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40\x08\x06\0\0\0",
                3000,
                10,
            ),
            (
                "a JPEG image",
                b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
                3000,
                10,
            ),
            ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", 3000, 12),
            ("a certificate", b"\x30\x82\x03\xe8", 1000, 0),
            ("AWS KMS", &kms_start, 400, 10),
            ("AWS Encryption SDK", &sdk_start.concat(), 700, 10),
        ] {
            let count = count_mistaken(start, len, "");
            assert!(count <= max, "{why}: {count}");
        }
        let in_sops = count_mistaken(b"", 3000, "ENC[AES256_GCM,data:");
        assert!(in_sops <= 12, "sops: {in_sops}");
        let text = base64::encode("user: ?\npassword: ü?\n".repeat(200).as_bytes());
        assert_eq!(find(&text), None);
    }

    /// Attack: a committer writes a run of base64 in which every position may be the start of a value, or continues a
    /// value of a SealedSecret, so that searching it takes hours.
    #[test]
    fn compares_a_run_with_many_possible_starts_only_a_few_times() {
        let periodic = "/AQAA".repeat(100_000);
        let own = &periodic[1..];
        let values = values_of(own);
        for (text, want) in [
            (own.to_owned(), None),
            (periodic.clone(), None),
            (format!("x{}", &periodic), None),
            (format!("x{}", "/AQAA".repeat(60)), None),
            (format!("{periodic}x"), Some(1)),
        ] {
            values.comparisons.set(0);
            assert_eq!(first(text.as_bytes(), &values), want);
            assert!(values.comparisons.get() <= 2, "{}", text.len());
        }
    }
}
