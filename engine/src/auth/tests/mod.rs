//! Tokens that are good, and tokens that are wrong in one way each.

mod signer;

use super::*;
use crate::conn::endpoint::{Authenticator, ConnectRequest, Identity, Refusal};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::head::{HeadLimits, parse_request};
use signer::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The moment in which the tests play.
const NOW_S: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn any() -> TokenRules {
    TokenRules { audience: Audience::Any, ..TokenRules::default() }
}

fn all_keys() -> Vec<Key> {
    Algorithm::ALL.into_iter().map(key).collect()
}

fn with(rules: TokenRules) -> Tokens {
    Tokens::new(KeySet::new(all_keys()).expect("keys"), rules)
}

/// What HS256-signed claims come to.
fn claims(rules: TokenRules, claims: &str) -> Result<Identity, TokenFault> {
    with(rules).verify_at(&token(Algorithm::Hs256, claims), at(NOW_S))
}

fn user_of(verdict: Result<Identity, TokenFault>) -> Option<String> {
    verdict.expect("a good token").user
}

// -- vectors --------------------------------------------------------------------------------------------------------

#[test]
fn the_tokens_of_rfc_7515_appendix_a_are_good_until_they_expire() {
    let tokens = with(any());
    for (algorithm, text) in TOKENS {
        let identity =
            tokens.verify_at(text, at(EXPIRES_S - 1)).unwrap_or_else(|fault| panic!("{algorithm:?}: {fault}"));
        assert_eq!(identity.user, None, "they have no `sub`");
        assert_eq!(identity.expires_at, Some(at(EXPIRES_S) + CLOCK_SKEW));
        assert_eq!(tokens.verify_at(text, at(NOW_S)), Err(TokenFault::Expired));
    }
}

#[test]
fn the_keys_of_rfc_7515_appendix_a_are_read_as_jwk() {
    let set = format!(
        r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{SECRET}"}},{{"kty":"RSA","n":"{RSA_N}","e":"{RSA_E}"}},
            {{"kty":"EC","crv":"P-256","x":"{EC_X}","y":"{EC_Y}"}}]}}"#
    );
    let set = Jwks::parse(set.as_bytes()).expect("a set");
    assert_eq!((set.keys.len(), set.passed_over), (3, 0));
    let tokens = Tokens::new(KeySet::new(set.keys).expect("keys"), any());
    for (_, text) in TOKENS {
        tokens.verify_at(text, at(EXPIRES_S - 1)).expect("a good token");
    }
}

#[test]
fn every_algorithm_signs_and_verifies() {
    let tokens = with(any());
    for algorithm in Algorithm::ALL {
        let text = token(algorithm, r#"{"exp":1700000600,"sub":"ann"}"#);
        // Twice: the second time some are remembered.
        for _ in 0..2 {
            assert_eq!(user_of(tokens.verify_at(&text, at(NOW_S))).as_deref(), Some("ann"), "{algorithm:?}");
        }
    }
}

// -- signatures -----------------------------------------------------------------------------------------------------

#[test]
fn every_changed_byte_is_refused() {
    let tokens = with(any());
    for (algorithm, text) in TOKENS {
        tokens.verify_at(text, at(EXPIRES_S - 1)).expect("a good token, which may be remembered");
        for position in 0..text.len() {
            for other in [b'A', b'Q', b'_', b'.', b'=', b' ', text.as_bytes()[position] ^ 1] {
                let mut changed = text.as_bytes().to_vec();
                changed[position] = other;
                let Ok(changed) = std::str::from_utf8(&changed) else { continue };
                if changed != text {
                    let verdict = tokens.verify_at(changed, at(EXPIRES_S - 1));
                    assert!(verdict.is_err(), "{algorithm:?}: byte {position} as {:?}", char::from(other));
                }
            }
        }
        for cut in 0..text.len() {
            assert!(tokens.verify_at(&text[..cut], at(EXPIRES_S - 1)).is_err(), "{algorithm:?} cut at {cut}");
        }
        for longer in [format!("{text}A"), format!("{text}="), format!("{text}."), format!(" {text}")] {
            assert!(tokens.verify_at(&longer, at(EXPIRES_S - 1)).is_err(), "{longer}");
        }
    }
}

/// A public key is no secret: who uses it as one has forged a token.
#[test]
fn a_public_key_never_verifies_as_a_secret() {
    let jwk = format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"{RSA_E}","kid":"k"}}"#);
    let set = Jwks::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).expect("a set");
    let tokens = Tokens::new(KeySet::new(set.keys).expect("keys"), any());
    let claims = r#"{"exp":1700000600,"sub":"root"}"#;
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"k"}"#, r#"{"alg":"RS256","kid":"k"}"#] {
        let signed = format!("{}.{}", part(header), part(claims));
        for secret in [jwk.as_bytes(), &bytes(RSA_N), RSA_N.as_bytes(), b""] {
            let forged = format!("{signed}.{}", part(hmac(ring::hmac::HMAC_SHA256, secret, &signed)));
            let expected = if header.contains("RS256") { TokenFault::Signature } else { TokenFault::NoKey };
            assert_eq!(tokens.verify_at(&forged, at(NOW_S)), Err(expected), "{header}");
        }
    }
}

#[test]
fn a_signature_of_another_algorithm_is_refused_whatever_the_header_says() {
    let tokens = with(any());
    for signed_with in Algorithm::ALL {
        for named in Algorithm::ALL.into_iter().filter(|named| *named != signed_with) {
            let header = format!(r#"{{"alg":"{}"}}"#, named.name());
            let text = sign(signed_with, header, r#"{"exp":1700000600}"#);
            assert_eq!(tokens.verify_at(&text, at(NOW_S)), Err(TokenFault::Signature), "{signed_with:?} as {named:?}");
        }
    }
}

#[test]
fn none_is_no_algorithm() {
    let tokens = with(any());
    for name in ["none", "None", "NONE", "", "hs256", "HS256 ", "RS512", "PS256", "ES384", "EdDSA"] {
        let signed = format!("{}.{}", part(format!(r#"{{"alg":"{name}"}}"#)), part(r#"{"exp":1700000600}"#));
        for signature in [String::new(), part(hmac(ring::hmac::HMAC_SHA256, &bytes(SECRET), &signed))] {
            let text = format!("{signed}.{signature}");
            assert_eq!(tokens.verify_at(&text, at(NOW_S)), Err(TokenFault::NoKey), "{name}");
        }
    }
}

// -- form -----------------------------------------------------------------------------------------------------------

#[test]
fn what_is_no_token_is_refused() {
    let tokens = with(any());
    let good = r#"{"exp":1700000600}"#;
    let deep = format!(r#"{{"exp":1700000600,"a":{}{}}}"#, "[".repeat(2_000), "]".repeat(2_000));
    let twice = [r#"{"exp":1700000600,"sub":"ann","sub":"root"}"#, r#"{"exp":1,"\u0065xp":1700000600}"#];
    let head = r#"{"alg":"HS256"}"#;
    for (what, text) in [
        ("nothing", String::new()),
        ("a word", "rubbish".into()),
        ("two dots", "..".into()),
        ("four parts", format!("{}.x", token(Algorithm::Hs256, good))),
        ("a header that is no JSON", sign(Algorithm::Hs256, "alg", good)),
        ("a header that is no object", sign(Algorithm::Hs256, r#"["HS256"]"#, good)),
        ("a header without algorithm", sign(Algorithm::Hs256, r#"{"typ":"JWT"}"#, good)),
        ("an algorithm that is no text", sign(Algorithm::Hs256, r#"{"alg":["HS256"]}"#, good)),
        ("two algorithms", sign(Algorithm::Hs256, r#"{"alg":"HS256","alg":"HS256"}"#, good)),
        ("a key id that is no text", sign(Algorithm::Hs256, r#"{"alg":"HS256","kid":1}"#, good)),
        ("a header that is not UTF-8", sign(Algorithm::Hs256, b"{\"alg\":\"HS256\",\"a\":\"\xff\"}", good)),
        ("claims that are no object", token(Algorithm::Hs256, "[]")),
        ("claims with more behind", token(Algorithm::Hs256, r#"{"exp":1700000600} {}"#)),
        ("claims that are not UTF-8", sign(Algorithm::Hs256, head, b"{\"exp\":1700000600,\"sub\":\"\xc3\x28\"}")),
        ("claims that are too deep", token(Algorithm::Hs256, &deep)),
        ("a claim twice", token(Algorithm::Hs256, twice[0])),
        ("a claim twice, once escaped", token(Algorithm::Hs256, twice[1])),
    ] {
        assert_eq!(tokens.verify_at(&text, at(NOW_S)), Err(TokenFault::Malformed), "{what}");
    }
    let critical = sign(Algorithm::Hs256, r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, good);
    assert_eq!(tokens.verify_at(&critical, at(NOW_S)), Err(TokenFault::Critical));
}

#[test]
fn a_token_has_a_largest_size() {
    let tokens = with(any());
    let padded = |len: usize| token(Algorithm::Hs256, &format!(r#"{{"exp":1700000600,"x":"{}"}}"#, "a".repeat(len)));
    let overhead = padded(0).len();
    let len = (TOKEN_BYTES_MAX - overhead) / 4 * 3;
    assert!(padded(len).len() <= TOKEN_BYTES_MAX && padded(len + 3).len() > TOKEN_BYTES_MAX);
    tokens.verify_at(&padded(len), at(NOW_S)).expect("a large token");
    assert_eq!(tokens.verify_at(&padded(len + 3), at(NOW_S)), Err(TokenFault::TooLong));
}

// -- claims ---------------------------------------------------------------------------------------------------------

#[test]
fn an_expiry_is_needed_and_is_a_date() {
    for (text, fault) in [
        (r"{}", TokenFault::Claim),
        (r#"{"exp":null}"#, TokenFault::Claim),
        (r#"{"exp":"1700000600"}"#, TokenFault::Claim),
        (r#"{"exp":true}"#, TokenFault::Claim),
        (r#"{"exp":[1700000600]}"#, TokenFault::Claim),
        (r#"{"exp":1e999}"#, TokenFault::Claim),
        (r#"{"exp":-1}"#, TokenFault::Expired),
        (r#"{"exp":0}"#, TokenFault::Expired),
        (r#"{"exp":1700000600,"nbf":"1"}"#, TokenFault::Claim),
        (r#"{"exp":1700000600,"nbf":null}"#, TokenFault::Claim),
    ] {
        assert_eq!(claims(any(), text), Err(fault), "{text}");
    }
    let far = claims(any(), r#"{"exp":1e300}"#).expect("a good token");
    assert_eq!(far.expires_at, None, "no clock gets there");
    claims(any(), r#"{"exp":1700000600.25,"nbf":1.6e9}"#).expect("dates may have a fraction and an exponent");
}

#[test]
fn the_clock_skew_is_a_bound_on_both_sides() {
    let skew_s = 5;
    let tokens = with(TokenRules { clock_skew: Duration::from_secs(skew_s), ..any() });
    for algorithm in [Algorithm::Hs256, Algorithm::Es256] {
        let text = token(algorithm, &format!(r#"{{"nbf":{NOW_S},"exp":{}}}"#, NOW_S + 100));
        let verdict = |seconds: u64| tokens.verify_at(&text, at(seconds)).map(drop);
        assert_eq!(verdict(NOW_S - skew_s - 1), Err(TokenFault::NotYetValid));
        assert_eq!(verdict(NOW_S - skew_s), Ok(()));
        assert_eq!(verdict(NOW_S + 100 + skew_s - 1), Ok(()));
        assert_eq!(verdict(NOW_S + 100 + skew_s), Err(TokenFault::Expired), "before the date, not on it");
    }
    let last = tokens.verify_at(&token(Algorithm::Hs256, r#"{"exp":1700000600}"#), at(NOW_S)).expect("a good token");
    assert_eq!(last.expires_at, Some(at(1_700_000_605)), "a connection lasts as long as its token would let one in");
}

#[test]
fn one_of_the_audiences_must_be_ours() {
    let ours = || TokenRules { audience: Audience::OneOf(vec!["a".into(), "b".into()]), ..TokenRules::default() };
    let verdict = |aud: &str| claims(ours(), &format!(r#"{{"exp":1700000600{aud}}}"#)).map(drop);
    for good in [r#","aud":"a""#, r#","aud":["x","b"]"#, r#","aud":["b","x"]"#, r#","aud":"\u0061""#] {
        assert_eq!(verdict(good), Ok(()), "{good}");
    }
    for bad in
        ["", r#","aud":"c""#, r#","aud":"A""#, r#","aud":"a ""#, r#","aud":"""#, r#","aud":[]"#, r#","aud":["c"]"#]
    {
        assert_eq!(verdict(bad), Err(TokenFault::Audience), "{bad}");
    }
    for odd in [r#","aud":1"#, r#","aud":null"#, r#","aud":{"a":1}"#, r#","aud":["a",1]"#, r#","aud":[["a"]]"#] {
        assert_eq!(verdict(odd), Err(TokenFault::Claim), "{odd}");
    }
    let text = r#"{"exp":1700000600,"aud":"a"}"#;
    assert_eq!(claims(TokenRules::default(), text), Err(TokenFault::Audience), "nobody's, until it is said");
    claims(any(), text).expect("any audience");
}

#[test]
fn the_issuer_must_be_one_of_those_named() {
    let ours = || TokenRules { issuers: vec!["https://id.example/".into(), "b".into()], ..any() };
    let verdict = |iss: &str| claims(ours(), &format!(r#"{{"exp":1700000600{iss}}}"#)).map(drop);
    assert_eq!(verdict(r#","iss":"https://id.example/""#), Ok(()));
    assert_eq!(verdict(r#","iss":"b""#), Ok(()));
    for bad in ["", r#","iss":"https://id.example""#, r#","iss":"B""#] {
        assert_eq!(verdict(bad), Err(TokenFault::Issuer), "{bad}");
    }
    assert_eq!(verdict(r#","iss":["b"]"#), Err(TokenFault::Claim));
}

#[test]
fn the_user_is_the_first_of_the_named_claims() {
    const URI: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
    let rules =
        |from: &[&str]| TokenRules { user_from: from.iter().map(|path| ClaimPath::new(path)).collect(), ..any() };
    let user = |from: &[&str], rest: &str| {
        claims(rules(from), &format!(r#"{{"exp":1700000600,{rest}}}"#)).map(|identity| identity.user)
    };
    let named = |user: &str| Ok(Some(user.to_owned()));
    let by_uri = format!(r#""{URI}":"ann""#);
    assert_eq!(user(&[URI], &by_uri), named("ann"));
    assert_eq!(user(&["asrs.s.uid", "nameid"], r#""nameid":"b","asrs.s.uid":"a""#), named("a"));
    assert_eq!(user(&["asrs.s.uid", "nameid"], r#""nameid":"b""#), named("b"));
    assert_eq!(user(&["/realm/user"], r#""realm":{"user":"c"}"#), named("c"));
    assert_eq!(user(&["/a~1b/c~0d"], r#""a/b":{"c~d":"e"}"#), named("e"));
    assert_eq!(user(&["sub"], r#""sub":"dave \u00e9""#), named("dave é"));
    for nobody in [r#""x":1"#, r#""realm":{}"#, r#""realm":"user""#, r#""realm":{"user":"a","user":"b"}"#] {
        assert_eq!(user(&["/realm/user", "sub"], nobody), Ok(None), "{nobody}");
    }
    let long = format!(r#""sub":"{}""#, "x".repeat(USER_BYTES_MAX + 1));
    for bad in [r#""sub":"""#, r#""sub":7"#, r#""sub":null"#, r#""sub":["a"]"#, r#""sub":"\ud800""#, &long] {
        assert_eq!(user(&["sub"], bad), Err(TokenFault::Claim), "{bad}");
    }
}

// -- keys -----------------------------------------------------------------------------------------------------------

fn secret(fill: u8) -> Key {
    Key::secret(Algorithm::Hs256, &[fill; 32]).expect("a secret")
}

fn signed_by(fill: u8, key_id: Option<&str>) -> String {
    let id = key_id.map_or(String::new(), |id| format!(r#","kid":"{id}""#));
    let signed = format!("{}.{}", part(format!(r#"{{"alg":"HS256"{id}}}"#)), part(r#"{"exp":1700000600}"#));
    format!("{signed}.{}", part(hmac(ring::hmac::HMAC_SHA256, &[fill; 32], &signed)))
}

#[test]
fn the_key_id_chooses_the_key() {
    let verdict = |keys: Vec<Key>, text: &str| {
        Tokens::new(KeySet::new(keys).expect("keys"), any()).verify_at(text, at(NOW_S)).map(drop)
    };
    let two = || vec![secret(1).named("one"), secret(2).named("two")];
    assert_eq!(verdict(two(), &signed_by(1, Some("one"))), Ok(()));
    assert_eq!(verdict(two(), &signed_by(2, Some("two"))), Ok(()));
    assert_eq!(verdict(two(), &signed_by(2, Some("one"))), Err(TokenFault::Signature));
    assert_eq!(verdict(two(), &signed_by(1, Some("three"))), Err(TokenFault::NoKey));
    assert_eq!(verdict(two(), &signed_by(1, None)), Err(TokenFault::NoKey), "which of two is not for us to guess");
    assert_eq!(verdict(vec![secret(1).named("one")], &signed_by(1, None)), Ok(()));
    // Two secrets without ids, while one takes the place of the other.
    for fill in [1, 2] {
        for id in [None, Some("whatever")] {
            assert_eq!(verdict(vec![secret(1), secret(2)], &signed_by(fill, id)), Ok(()));
        }
    }
    assert_eq!(verdict(vec![secret(1), secret(2)], &signed_by(3, None)), Err(TokenFault::Signature));
}

#[test]
fn replaced_keys_are_out_of_force_at_once() {
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
        let tokens = Tokens::new(KeySet::new(vec![key(algorithm)]).expect("keys"), any());
        let text = token(algorithm, r#"{"exp":1700000600}"#);
        tokens.clone().verify_at(&text, at(NOW_S)).expect("a good token");
        tokens.clone().replace_keys(KeySet::new(vec![secret(9)]).expect("keys"));
        assert!(tokens.verify_at(&text, at(NOW_S)).is_err(), "{algorithm:?}");
        assert_eq!(tokens.verify_at(&signed_by(9, None), at(NOW_S)).map(drop), Ok(()));
        tokens.replace_keys(KeySet::new(vec![key(algorithm), secret(9)]).expect("keys"));
        tokens.verify_at(&text, at(NOW_S)).expect("a good token again");
    }
}

#[test]
fn keys_that_are_not_safe_are_refused() {
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let min = algorithm.secret_bytes_min();
        let fault = Key::secret(algorithm, &vec![7; min - 1]).expect_err("too short");
        assert_eq!(fault, KeyFault::ShortSecret { algorithm, len: min - 1 });
        Key::secret(algorithm, &vec![7; min]).expect("long enough");
    }
    assert!(matches!(Key::secret(Algorithm::Rs256, &[7; 64]), Err(KeyFault::WrongAlgorithm(Algorithm::Rs256))));
    let n = bytes(RSA_N);
    Key::rsa(&[&[0], n.as_slice()].concat(), &[0, 1, 0, 1]).expect("zeros in front");
    let small = [&[0x7f], &n[1..]].concat();
    let even = [&n[..255], &[2]].concat();
    for (modulus, exponent) in [
        (&n[..], &[1u8][..]),
        (&n, &[2]),
        (&n, &[]),
        (&n, &[0]),
        (&n, &[1, 0, 0, 0, 0, 1]),
        (&n[..128], &[1, 0, 1]),
        (&small, &[1, 0, 1]),
        (&even, &[1, 0, 1]),
        (&[], &[1, 0, 1]),
        (&[0xff; 1_025], &[1, 0, 1]),
    ] {
        assert!(matches!(Key::rsa(modulus, exponent), Err(KeyFault::Rsa)), "{} {exponent:?}", modulus.len());
    }
    let (x, y) = (bytes(EC_X), bytes(EC_Y));
    for (x, y) in [(&y, &x), (&x, &x), (&vec![0; 32], &vec![0; 32]), (&x[..31].to_vec(), &y)] {
        assert!(matches!(Key::p256(x, y), Err(KeyFault::Point)));
    }
    let many = |count: usize| (0..count).map(|n| secret(1).named(n.to_string())).collect::<Vec<_>>();
    KeySet::new(many(KEYS_MAX)).expect("as many as there may be");
    assert_eq!(KeySet::new(many(KEYS_MAX + 1)).err(), Some(KeyFault::TooMany(KEYS_MAX + 1)));
    let without = |count: usize| (0..count).map(|n| secret(n as u8)).collect::<Vec<_>>();
    KeySet::new(without(KEYS_WITHOUT_ID_MAX)).expect("as many as there may be");
    let fault = KeySet::new(without(KEYS_WITHOUT_ID_MAX + 1)).err();
    assert_eq!(fault, Some(KeyFault::TooManyWithoutId(Algorithm::Hs256)));
    assert_eq!(KeySet::new(vec![secret(1).named("a"), secret(2).named("a")]).err(), Some(KeyFault::Twice("a".into())));
    assert_eq!(KeySet::new(Vec::new()).err(), Some(KeyFault::Empty));
}

#[test]
fn a_set_is_read_whole_or_not_at_all() {
    let rsa = |more: &str| format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"{RSA_E}"{more}}}"#);
    let set = |keys: &[String]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let read = |text: &str| Jwks::parse(text.as_bytes()).map(|set| (set.keys.len(), set.passed_over));
    // A provider's set has keys for other things as well.
    let others = [
        rsa(r#","use":"enc""#),
        rsa(r#","key_ops":["encrypt"]"#),
        rsa(r#","alg":"RS512""#),
        rsa(r#","alg":"PS256""#),
        r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.to_owned(),
        r#"{"kty":"oct","alg":"A256GCM","k":"AA"}"#.to_owned(),
    ];
    assert_eq!(read(&set(&others)), Ok((0, others.len())));
    let ours = [
        rsa(r#","use":"sig","alg":"RS256","kid":"a","x5c":["MIIB"],"issued":7"#),
        rsa(r#","key_ops":["sign","verify"],"kid":"b","d":"AA""#),
    ];
    assert_eq!(read(&set(&[&ours[..], &others[..1]].concat())), Ok((2, 1)));
    assert_eq!(read(r#"{"keys":[]}"#), Ok((0, 0)));
    for text in
        ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]"#]
    {
        assert_eq!(read(text), Err(KeyFault::NotASet), "{text}");
    }
    assert_eq!(read(&set(&[rsa(r#","n":"AQAB""#)])), Err(KeyFault::NotASet), "a member twice");
    for (name, key) in [
        ("kty", "{}".to_owned()),
        ("kty", r#"{"kty":7}"#.to_owned()),
        ("n", r#"{"kty":"RSA","e":"AQAB"}"#.to_owned()),
        ("e", format!(r#"{{"kty":"RSA","n":"{RSA_N}"}}"#)),
        ("e", format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB="}}"#)),
        ("kid", rsa(r#","kid":7"#)),
        ("use", rsa(r#","use":7"#)),
        ("key_ops", rsa(r#","key_ops":"verify""#)),
        ("y", format!(r#"{{"kty":"EC","crv":"P-256","x":"{EC_X}"}}"#)),
        ("alg", format!(r#"{{"kty":"oct","k":"{SECRET}"}}"#)),
        ("k", r#"{"kty":"oct","alg":"HS256"}"#.to_owned()),
    ] {
        assert_eq!(read(&set(&[ours[0].clone(), key])), Err(KeyFault::Member { at: 1, name }));
    }
    assert_eq!(read(&" ".repeat(JWKS_BYTES_MAX + 1)), Err(KeyFault::TooLong));
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let tokens = with(any());
    let text = token(Algorithm::Rs256, r#"{"exp":1700000600,"sub":"somebody"}"#);
    tokens.verify_at(&text, at(NOW_S)).expect("a good token");
    let printed = format!("{tokens:?} {:?} {:?}", tokens.keys(), tokens.required());
    let secret = format!("{:?}", &bytes(SECRET)[..4]);
    for held in ["somebody", SECRET, secret.trim_matches(['[', ']']), &text] {
        assert!(!printed.contains(held), "{printed}");
    }
}

// -- at the door ----------------------------------------------------------------------------------------------------

/// What a guard says to a request with this head.
fn ask(guard: &Guard, method: &str, query: &str, headers: &[(&str, &[u8])]) -> Result<Option<String>, Refusal> {
    let mut head = format!("{method} /hub{query} HTTP/1.1\r\nHost: x\r\n").into_bytes();
    for (name, value) in headers {
        head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let Ok(Progress::Done(head, _)) = parse_request(&head, &HeadLimits::default()) else { panic!("no request") };
    guard.authenticate(&ConnectRequest::new(&head)).map(|identity| identity.user)
}

fn fresh(user: &str) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after the epoch").as_secs();
    token(Algorithm::Hs256, &format!(r#"{{"exp":{},"sub":"{user}"}}"#, now_s + 600))
}

#[test]
fn line_148_header_and_query_are_taken_on_get_and_the_query_is_not_on_post() {
    let guard = with(any()).required();
    let (header, query) = (fresh("header"), format!("?id=1&access_token={}", fresh("query")));
    let bearer = format!("Bearer {header}");
    let bearer = [("Authorization", bearer.as_bytes())];
    let named = |user: &str| Ok(Some(user.to_owned()));
    assert_eq!(ask(&guard, "GET", "", &bearer), named("header"));
    assert_eq!(ask(&guard, "GET", &query, &[]), named("query"));
    assert_eq!(ask(&guard, "GET", &query, &bearer), named("header"), "the header wins");
    assert_eq!(ask(&guard, "POST", "", &bearer), named("header"));
    assert_eq!(ask(&guard, "POST", &query, &bearer), named("header"));
    for method in ["POST", "DELETE", "PUT"] {
        assert_eq!(ask(&guard, method, &query, &[]), Err(Refusal::Unauthorized), "{method}");
    }
    // A header that is no bearer token says nothing; a bad bearer token is not made good by the query.
    assert_eq!(ask(&guard, "GET", &query, &[("Authorization", b"Basic YTpi")]), named("query"));
    assert_eq!(ask(&guard, "GET", &query, &[("Authorization", b"Bearer rubbish")]), Err(Refusal::Unauthorized));
    assert_eq!(
        ask(&guard, "GET", "", &[("authorization", format!("bEARER   {header}  ").as_bytes())]),
        named("header")
    );
}

#[test]
fn who_brings_no_token_may_be_nobody_and_who_brings_a_bad_one_may_not() {
    let tokens = with(any());
    let (required, optional) = (tokens.required(), tokens.optional());
    assert_eq!(ask(&required, "GET", "", &[]), Err(Refusal::Unauthorized));
    assert_eq!(ask(&optional, "GET", "", &[]), Ok(None));
    assert_eq!(ask(&optional, "GET", "?access_token=", &[]), Ok(None));
    assert_eq!(ask(&optional, "GET", "", &[("Authorization", b"Bearer ")]), Ok(None));
    let good = format!("?access_token={}", fresh("ann"));
    assert_eq!(ask(&optional, "GET", &good, &[]), Ok(Some("ann".to_owned())));
    for bad in [&b"Bearer rubbish"[..], b"Bearer \xff\xfe", b"Bearer a.b.c", b"Bearer one two"] {
        for guard in [&required, &optional] {
            assert_eq!(ask(guard, "GET", "", &[("Authorization", bad)]), Err(Refusal::Unauthorized));
        }
    }
    let counts = tokens.counts();
    assert_eq!((counts.accepted, counts.refused(TokenFault::Missing)), (1, 1));
    assert_eq!(counts.refused(TokenFault::Malformed), 8);
    for (number, fault) in TokenFault::ALL.into_iter().enumerate() {
        assert_eq!(fault as usize, number);
    }
}

/// Bodies of the fuzz target, on what it would begin with.
#[test]
fn the_fuzz_body_takes_whatever_comes() {
    for (_, text) in TOKENS {
        fuzz_token(text.as_bytes());
        for cut in 0..text.len() {
            fuzz_token(&text.as_bytes()[cut..]);
        }
    }
    for text in ["", ".", "..", "...", "e30.e30.", "e30.e30.AA", "{\"keys\":[{}]}"] {
        fuzz_token(text.as_bytes());
    }
}
