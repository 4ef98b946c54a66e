//! A secret that stands where credentials stand never comes out, whatever stands around it.

use e2e::random::Random;
use wire::head::{RequestHead, write_request_head, write_response_head};
use wire::redact::Redactor;

use crate::harness;
use crate::mutate::mutate;

const HEADERS: [&str; 14] = [
    "x-api-key",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-goog-api-key",
    "api-key",
    "x-amz-security-token",
    "ocp-apim-subscription-key",
    "x-auth-token",
    "x-client-secret",
    "cf-access-token",
    "apikey",
    "x-auth",
];
const PARAMETERS: [&str; 10] =
    ["key", "api_key", "api-key", "access_token", "token", "auth", "x-api-key", "client_secret", "sig", "password"];
const SCHEMES: [&str; 5] = ["", "Bearer ", "bearer  ", "Basic ", "Weird "];
const AROUND: [&[u8]; 12] = [b"?", b"&", b"=", b"#", b";", b"%", b"%3D", b"key=", b"://", b"@", b" ", b"redacted"];

/// Anything that may stand in a target or a value: no blanks, no controls.
fn garbage(random: &mut Random) -> String {
    let mut bytes = b"/v1/messages".to_vec();
    mutate(&mut bytes, &AROUND, random);
    let visible = |byte: &u8| byte.is_ascii_graphic() && !b"\"<>".contains(byte);
    String::from_utf8(bytes.into_iter().filter(visible).collect()).unwrap()
}

fn any_case(name: &str, random: &mut Random) -> String {
    name.chars().map(|c| if random.one_in(2) { c.to_ascii_uppercase() } else { c }).collect()
}

/// Some characters percent-encoded.
fn encoded(text: &str, random: &mut Random) -> String {
    text.bytes().map(|b| if random.one_in(5) { format!("%{b:02x}") } else { char::from(b).to_string() }).collect()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if text[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn target(secret: &str, random: &mut Random) -> String {
    let name = any_case(random.pick(&PARAMETERS), random);
    let parameter = format!("{}={}", encoded(&name, random), encoded(secret, random));
    let delimiter = random.pick(&["?", "&", "#", ";"]);
    let path = garbage(random).replace(['?', '#'], "");
    let before = if random.one_in(2) { format!("?{}{delimiter}", garbage(random)) } else { "?".to_owned() };
    let after = if random.one_in(2) { format!("&{}", garbage(random)) } else { String::new() };
    format!("/{path}{before}{parameter}{after}")
}

#[test]
fn a_credential_never_comes_out_of_a_head() {
    harness::run("redaction", 60_000, |random| {
        let redactor = Redactor::new([7; 32]);
        let secret = format!("sk-{}", random.hex(24));
        let target = if random.one_in(2) { target(&secret, random) } else { "/v1/messages".to_owned() };
        let mut headers: Vec<(String, Vec<u8>)> = vec![("host".to_owned(), garbage(random).into_bytes())];
        for _ in 0..random.between(0, 4) {
            let name = any_case(random.pick(&HEADERS), random);
            let value = format!("{}{}{secret}{}", random.pick(&SCHEMES), garbage(random), garbage(random));
            headers.push((name, value.into_bytes()));
        }
        if random.one_in(3) {
            headers.push(("Referer".to_owned(), format!("http://h{}", self::target(&secret, random)).into_bytes()));
        }
        if random.one_in(3) {
            let url = format!("https://user:{secret}@host/{}", garbage(random));
            headers.push((any_case("location", random), url.into_bytes()));
        }
        let borrowed = || headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let mut out = Vec::new();
        write_request_head(&mut out, "POST", &target, "HTTP/1.1", borrowed(), &redactor);
        let head = RequestHead::decode(&out).expect("what is written can be read");
        assert_eq!(head.headers.0.len(), headers.len());
        write_response_head(&mut out, 200, "HTTP/1.1", borrowed(), &redactor);
        let text = String::from_utf8_lossy(&out);
        let seen = |bytes: &[u8]| e2e::recorder::contains(bytes, secret.as_bytes());
        assert!(!seen(&out) && !seen(&decoded(&out)), "{secret} in {text}\ntarget {target}\n{headers:?}");
    });
}
