//! A stack that runs elsewhere: asked through its console's address, with a token.
//!
//! The address is `--url http://HOST:PORT`; the token is in the variable `KEEL_TOKEN` or in the file of
//! `--token-file`, never an argument, since others see those. There is no TLS here: over a network this belongs
//! into a tunnel.

use std::path::Path;

use evenkeel_core::secret::Secret;

use crate::failure::Failure;

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_token_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "keel_0123\n").unwrap();
        let remote = Remote::new("http://127.0.0.1:9400/", Some(file.path())).unwrap();
        assert_eq!((remote.token.expose(), remote.url.as_str()), ("keel_0123", "http://127.0.0.1:9400"));
        assert!(!format!("{remote:?}").contains("keel_0123"));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(Remote::new("http://127.0.0.1:9400", Some(file.path())).is_err());
    }
}
