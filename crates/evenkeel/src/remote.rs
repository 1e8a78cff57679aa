//! A stack that runs elsewhere: asked through its console's address, with a token.
//!
//! The address is `--url http://HOST:PORT`; the token is in the variable `KEEL_TOKEN` or in the file of
//! `--token-file`, never an argument, since others see those. There is no TLS here: over a network this belongs
//! into a tunnel.

use std::{os::unix::fs::PermissionsExt, path::Path};

use evenkeel_core::secret::Secret;

use crate::{context::shell_word, failure::Failure};

/// Where to ask, and with what right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// As it was given, without a slash at its end.
    pub(crate) url: String,
    /// `host:port` of it.
    pub(crate) authority: String,
    /// What to show.
    pub(crate) token: Secret,
}

impl Remote {
    /// From the options and `KEEL_TOKEN`.
    pub(crate) fn new(url: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/');
        let authority = authority(url)?;
        let token = match token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map(Secret::new);
                let text = text
                    .map_err(|error| Failure::usage("the token's file cannot be read").at_path(file).because(error))?;
                if is_shared(file) {
                    return Err(Failure::usage("everybody on this machine may read the token")
                        .at_path(file)
                        .fix(format!("make it yours alone: chmod 600 {}", shell_word(&file.display().to_string()))));
                }
                Secret::new(text.expose().trim())
            }
            None => Secret::new(std::env::var("KEEL_TOKEN").unwrap_or_default().trim()),
        };
        let fits = |byte: u8| byte.is_ascii_graphic();
        if token.expose().is_empty() || !token.expose().bytes().all(fits) {
            return Err(Failure::usage("there is no token to show to it").at(url).because("KEEL_TOKEN holds none").fix(
                "make one on its machine with `keel token create NAME`, and put it into KEEL_TOKEN or into the file of \
                 --token-file",
            ));
        }
        Ok(Self { url: url.to_owned(), authority, token })
    }

    /// Whether what is sent stays on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// `host:port` of `http://host:port`.
fn authority(url: &str) -> Result<String, Failure> {
    if holds_token(url) {
        // It is not shown once more.
        return Err(Failure::usage("an address with a token is refused")
            .because("others on this machine see arguments")
            .fix(
                "put the token into KEEL_TOKEN or into the file of --token-file; make another one, and revoke the one \
                 that was shown: keel token revoke NAME",
            ));
    }
    let wrong = |cause: &str| {
        Failure::usage("this cannot be the address of a console").at(url).because(cause).fix("as http://127.0.0.1:9400")
    };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => {
            return Err(wrong("the console has no TLS in this version: over a network, use a tunnel (ssh -L)"));
        }
        _ => return Err(wrong("it must begin with http://")),
    };
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return Err(wrong("it is more than a host and a port"));
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:80") })
}

/// Whether there is a token in an address, or a password (RFC 3986, section 3.2.1), or a query that may hold one.
fn holds_token(url: &str) -> bool {
    let is_token = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count() >= 16;
    url.contains(['@', '?']) || url.split("keel_").skip(1).any(is_token)
}

/// Whether somebody else may read a file that holds a token.
fn is_shared(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Paint;

    #[test]
    fn addresses() {
        assert_eq!(authority("http://127.0.0.1:9400").unwrap(), "127.0.0.1:9400");
        assert_eq!(authority("http://[::1]:9400").unwrap(), "[::1]:9400");
        assert_eq!(authority("http://keel.internal").unwrap(), "keel.internal:80");
        for wrong in ["127.0.0.1:9400", "https://a:1", "http://a:1/v1", "http://user@a:1", "http://"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
        let remote = |url: &str| {
            let authority = authority(url).unwrap();
            Remote { url: url.to_owned(), authority, token: Secret::new("x") }.is_local()
        };
        assert!(remote("http://127.0.0.1:9400") && remote("http://[::1]:9400") && remote("http://localhost:1"));
        assert!(!remote("http://10.0.0.1:9400") && !remote("http://localhost.example.com:1"));
    }

    #[test]
    fn an_address_with_a_token_is_refused_and_not_repeated() {
        let token = "keel_0123456789abcdef0123456789abcdef";
        for url in [
            format!("http://{token}@a:1"),
            format!("http://a:1/?token={token}"),
            format!("http://a:1/{token}"),
            token.to_owned(),
            "http://u:0123456789abcdef@a:1".to_owned(),
        ] {
            let said = authority(&url).unwrap_err().render(Paint::plain());
            assert!(!said.contains("0123456789abcdef") && said.contains("keel token revoke"), "{said}");
        }
        assert_eq!(authority("http://keel_prod:9400").unwrap(), "keel_prod:9400");
    }

    #[test]
    fn a_token_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "keel_0123\n").unwrap();
        let remote = Remote::new("http://127.0.0.1:9400/", Some(file.path())).unwrap();
        assert_eq!((remote.token.expose(), remote.url.as_str()), ("keel_0123", "http://127.0.0.1:9400"));
        assert!(!format!("{remote:?}").contains("keel_0123"));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let shared = Remote::new("http://127.0.0.1:9400/", Some(file.path())).unwrap_err().render(Paint::plain());
        assert!(shared.contains("chmod 600") && !shared.contains("keel_0123"), "{shared}");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::write(file.path(), "\n").unwrap();
        assert!(Remote::new("http://127.0.0.1:9400", Some(file.path())).is_err());
    }
}
