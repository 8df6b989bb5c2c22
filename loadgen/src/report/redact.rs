//! The command line as a result may show it: to be repeated, without what is secret.

/// In place of what was left out.
pub const REDACTED: &str = "REDACTED";

/// Names before `=` in URLs and connection strings whose values are secrets, in lower case.
const SECRET_KEYS: [&str; 12] = [
    "access_token",
    "accesskey",
    "api_key",
    "apikey",
    "client_secret",
    "code",
    "key",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
];

/// How a JSON Web Token begins: the base64 of `{"`.
const TOKEN_START: &str = "eyJ";

/// A text without the JSON Web Tokens in it, wherever they stand.
pub fn text(text: &str) -> String {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "-_.~+/=%".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(TOKEN_START) {
        let end = rest[at..].find(|c| !in_token(c)).map_or(rest.len(), |len| at + len);
        let token = rest[at..end].matches('.').count() >= 2;
        out.push_str(&rest[..at]);
        out.push_str(if token { REDACTED } else { &rest[at..end] });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// A target without the values of secret parameters and without a password before the host.
pub fn target(target: &str) -> String {
    let text = text(target);
    let text = text.as_str();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let key_at = rest[..at].rfind(['?', '&', ';', ' ']).map_or(0, |before| before + 1);
        let secret = SECRET_KEYS.contains(&rest[key_at..at].to_ascii_lowercase().as_str());
        // Base64 ends in '=': a value ends where the next parameter begins.
        let end = rest[at..].find(['&', ';', '#', ' ']).map_or(rest.len(), |len| at + len);
        out.push_str(&rest[..=at]);
        out.push_str(if secret { REDACTED } else { &rest[at + 1..end] });
        rest = &rest[end..];
    }
    out.push_str(rest);
    without_user_info(&out)
}

fn without_user_info(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#', ';']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{REDACTED}{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// One line for a shell. The program's folder is left out, and so are the values of headers.
pub fn command(arguments: &[String]) -> String {
    let mut words = Vec::new();
    let mut after_header = false;
    for (index, argument) in arguments.iter().enumerate() {
        let word = match argument.strip_prefix("--header=") {
            _ if index == 0 => argument.rsplit('/').next().unwrap_or_default().to_owned(),
            _ if after_header => header(argument),
            Some(value) => format!("--header={}", header(value)),
            None => target(argument),
        };
        after_header = argument == "--header";
        words.push(quoted(&word));
    }
    words.join(" ")
}

fn header(text: &str) -> String {
    text.split_once(':').map_or(REDACTED.to_owned(), |(name, _)| format!("{name}: {REDACTED}"))
}

/// As a POSIX shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        command(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_can_be_pasted_back() {
        assert_eq!(
            line(&["/opt/x/fanfare-loadgen", "broadcast", "--threshold", "last.p99<20ms", "-n", "5", "it's", ""]),
            r"fanfare-loadgen broadcast --threshold 'last.p99<20ms' -n 5 'it'\''s' ''"
        );
    }

    #[test]
    fn secrets_stay_out() {
        assert_eq!(
            line(&["l", "--header", "Authorization: Bearer s3cret", "--header=Cookie: s3cret", "--header", "s3cret"]),
            "l --header 'Authorization: REDACTED' '--header=Cookie: REDACTED' --header REDACTED"
        );
        assert_eq!(target("ws://h:1/x?a=b&access_token=s3cret&c=d"), "ws://h:1/x?a=b&access_token=REDACTED&c=d");
        assert_eq!(target("ws://h:1/x?access_token=s3=="), "ws://h:1/x?access_token=REDACTED");
        assert_eq!(
            target("Endpoint=http://localhost;Port=8888;AccessKey=c2VjcmV0==;Version=1.0;"),
            "Endpoint=http://localhost;Port=8888;AccessKey=REDACTED;Version=1.0;"
        );
        assert_eq!(target("ws://me:s3cret@h:1/x@y"), "ws://REDACTED@h:1/x@y");
        assert_eq!(target("ws://h:1/x@y"), "ws://h:1/x@y");
        assert_eq!(target("http://h/p?code=s3cret&Token=s3cret&q=1"), "http://h/p?code=REDACTED&Token=REDACTED&q=1");
    }

    #[test]
    fn tokens_are_known_by_their_looks() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl-_";
        assert_eq!(text(&format!("401 for '{token}', {token}")), "401 for 'REDACTED', REDACTED");
        assert_eq!(line(&["l", "--publish-prefix", token]), "l --publish-prefix REDACTED");
        assert_eq!(text("eyJust a word"), "eyJust a word");
    }
}
