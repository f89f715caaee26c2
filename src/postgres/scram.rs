//! SCRAM-SHA-256 verifiers, as `pg_authid.rolpassword` holds them (manual, 53.8; RFC 5803).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::model::Secret;

/// What every server before 16 uses; later ones have `scram_iterations`, with the same default.
pub const SCRAM_ITERATIONS: u32 = 4096;

/// The verifier of `password`: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. It is
/// itself worth keeping to oneself, but no password can be read from it. Servers make salts of 16
/// bytes. With 0 iterations the result is of no use; no server makes it.
#[must_use]
pub fn scram_verifier(password: &Secret, salt: &[u8], iterations: u32) -> String {
    // As the server does, and clients too, a password that SASLprep refuses is taken as it is.
    let prepared = stringprep::saslprep(password.expose());
    let bytes = prepared.as_ref().map_or(password.expose().as_bytes(), |p| p.as_bytes());
    let mut salted = [0_u8; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(bytes, salt, iterations, &mut salted);
    let stored = Sha256::digest(hmac(&salted, b"Client Key"));
    let server = hmac(&salted, b"Server Key");
    let [salt, stored, server] =
        [salt, stored.as_slice(), server.as_slice()].map(|b| BASE64.encode(b));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

/// Whether `verifier`, read from a server, is one of `password`. An MD5 hash or anything else that
/// is no SCRAM verifier matches nothing, so that it is replaced.
#[must_use]
pub fn scram_matches(password: &Secret, verifier: &str) -> bool {
    parameters(verifier)
        .is_some_and(|(iterations, salt)| scram_verifier(password, &salt, iterations) == verifier)
}

/// Iterations and salt of a verifier. A count beyond reason is refused: it would only cost time.
fn parameters(verifier: &str) -> Option<(u32, Vec<u8>)> {
    let (parameters, _) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let iterations = iterations.parse().ok().filter(|n| (1..=10_000_000).contains(n))?;
    Some((iterations, BASE64.decode(salt).ok()?))
}

fn hmac(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length; the error cannot happen.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::{SCRAM_ITERATIONS, scram_matches, scram_verifier};
    use crate::model::Secret;

    #[test]
    fn the_salt_of_rfc_7677_gives_its_keys() {
        // The RFC prints no StoredKey; these follow from its password, salt and count, and its
        // server signature and client proof are those that these keys make.
        let salt = super::BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = scram_verifier(&Secret::new("pencil"), &salt, SCRAM_ITERATIONS);
        assert_eq!(
            verifier,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn verifiers_of_real_servers_match() {
        for (password, verifier) in [
            (
                "I\u{ad}X",
                "SCRAM-SHA-256$4096:NllSTCdj7SMrhD3hDH/NXg==$/KMZA1xw5QAC8KTILhuzQxrZxV1mDtjWKeWLA0oy5Rk=:RVSQ4/MqLXcDSBnY4Mg/EHvnZZDQiuUpCfjUX1+aR80=",
            ),
            (
                "bad\u{7}bell",
                "SCRAM-SHA-256$4096:p3+fhi0lK8qzGVVQbFWP4Q==$rYyBWrW6xcTv49C5HNF4xTJv4XSM2v8zhWUiTbQqLcA=:DluZT+ooWgY9ydUz5TuZrnIAR+BZd3U0yvtsKVYFhao=",
            ),
            (
                "p\u{e4}ss \u{a0}w\u{2168}rd",
                "SCRAM-SHA-256$4096:eBRoJxRQqR145UnZlXxk7g==$N2900iauOGOhP8RE08Ui4r/S7zwNNGsb5lAXTDSWEYY=:4Xsul8X9WhFnlNaw7gOlT6qUAgsIk5/lO/lkhf7leFQ=",
            ),
            (
                "pencil",
                "SCRAM-SHA-256$4096:TOkLAqJFrNr93SaLoRlokQ==$xiksIfMmAekX7UxLqogpuyldcq1zDRdp2sZfEOpS8n4=:11tNLHAEyt2NwjxhbZ4Jdlj5mi+AQ3oZfNSACK0nBBI=",
            ),
        ] {
            assert!(scram_matches(&Secret::new(password), verifier), "{password}");
            assert!(!scram_matches(&Secret::new("other"), verifier));
        }
    }

    #[test]
    fn what_is_no_verifier_matches_nothing() {
        for text in [
            "",
            "md5a3556571e93b0d20722ba62be61e8c2d",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$x:y$z:w",
            "SCRAM-SHA-256$0:AAAA$AAAA:AAAA",
        ] {
            assert!(!scram_matches(&Secret::new("a"), text));
        }
    }

    use base64::Engine as _;
}
