//! What Fanfare says about itself under `/metrics` of its admin address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The page of a server that is still running.
pub fn page(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, page)) if head.starts_with("HTTP/1.1 200 ") => Ok(page.to_owned()),
        _ => Err(io::Error::other(format!("{admin}/metrics answered: {}", answer.lines().next().unwrap_or("nothing")))),
    }
}

/// The value of one series, written as on the page.
pub fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn series_are_found_by_their_whole_name() {
        let page = "# TYPE a counter\na{reason=\"slow\"} 12\na{reason=\"slower\"} 7\nab 3\n";
        assert_eq!(value(page, "a{reason=\"slow\"}"), Some(12.0));
        assert_eq!(value(page, "ab"), Some(3.0));
        assert_eq!(value(page, "a"), None);
    }
}
