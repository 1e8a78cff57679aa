//! Settings: environment variables first (<https://12factor.net/config>), a few flags that win over them.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::domain::NewAccount;
use crate::error::ShopError;

/// The text of `shop --help`.
pub(crate) const HELP: &str = "\
A small shop that keeps everything in one SQLite file, which several instances may share.

Usage: shop [--port N] [--bind ADDRESS] [--database PATH]

Options, and the environment variables they win over:
  --port N          PORT            port to listen on; 0 takes a free one (default 3000)
  --bind ADDRESS    SHOP_BIND       address to listen on (default 127.0.0.1)
  --database PATH   SHOP_DATABASE   the SQLite file, made if missing (default ./shop.db)
  -h, --help                        print this
  -V, --version                     print the version

Environment only:
  SHOP_ADMIN_TOKEN                          bearer token that may publish through the API (16 or more characters)
  SHOP_TILL                                 IP:PORT of a till that is asked for payments, as the host `till`
                                            (default: the shop is its own till)
  SHOP_ROLE                                 `shop`, or `till` to be the till of other instances (default shop)
  SHOP_STAFF_EMAIL, SHOP_STAFF_PASSWORD     account that may publish, made at start if missing
  RUST_LOG                                  what is logged, for example `info,evenkeel_shop::request=debug`
";

/// How an instance runs.
#[derive(Debug)]
pub struct Config {
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// The `SQLite` file.
    pub database: PathBuf,
    /// Bearer token that may publish through the API.
    pub admin_token: Option<String>,
    /// An account that may publish, made at start if missing.
    pub staff: Option<NewAccount>,
    /// Who is asked for payments; `None`: the provider inside the process.
    pub till: Option<SocketAddr>,
    /// What this process is.
    pub role: Role,
}

/// What a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The shop.
    #[default]
    Shop,
    /// The till that instances of the shop ask for payments.
    Till,
}

impl Role {
    /// The role called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "shop" => Some(Self::Shop),
            "till" => Some(Self::Till),
            _ => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 3000,
            database: PathBuf::from("shop.db"),
            admin_token: None,
            staff: None,
            till: None,
            role: Role::Shop,
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run an instance.
    Run(Config),
    /// Print this text and end.
    Print(String),
}

impl Command {
    /// Reads the process's environment, and `arguments` without the program's name.
    pub fn from_environment(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ShopError> {
        let arguments = arguments.into_iter().map(|argument| {
            argument.into_string().map_err(|argument| {
                ShopError::Config(format!("the argument {} is not valid UTF-8", argument.display()))
            })
        });
        Self::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()), arguments)
    }

    /// Reads settings from `environment` (a variable's value, if it is set) and `arguments`.
    fn read(
        environment: impl Fn(&str) -> Option<String>,
        arguments: impl IntoIterator<Item = Result<String, ShopError>>,
    ) -> Result<Self, ShopError> {
        let mut config = Config::default();
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        if let Some(port) = set("PORT") {
            config.port = parse_port("PORT", &port)?;
        }
        if let Some(bind) = set("SHOP_BIND") {
            config.bind = parse_address("SHOP_BIND", &bind)?;
        }
        if let Some(path) = set("SHOP_DATABASE") {
            config.database = path.into();
        }
        config.admin_token = set("SHOP_ADMIN_TOKEN");
        if config.admin_token.as_ref().is_some_and(|token| token.len() < 16) {
            return Err(ShopError::Config("SHOP_ADMIN_TOKEN needs at least 16 characters".to_owned()));
        }
        if let Some(till) = set("SHOP_TILL") {
            let parsed =
                till.parse().map_err(|_| format!("SHOP_TILL must be IP:PORT, as 127.0.0.1:8080, not {till:?}"));
            config.till = Some(parsed.map_err(ShopError::Config)?);
        }
        if let Some(role) = set("SHOP_ROLE") {
            let parsed = Role::parse(&role).ok_or_else(|| format!("SHOP_ROLE must be shop or till, not {role:?}"));
            config.role = parsed.map_err(ShopError::Config)?;
        }
        config.staff = staff(set("SHOP_STAFF_EMAIL"), set("SHOP_STAFF_PASSWORD"))?;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument?;
            let (flag, attached) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = || match attached.clone() {
                Some(value) => Ok(value),
                None => arguments.next().unwrap_or(Err(ShopError::Config(format!("{flag} needs a value")))),
            };
            match flag {
                "--port" => config.port = parse_port("--port", &value()?)?,
                "--bind" => config.bind = parse_address("--bind", &value()?)?,
                "--database" => config.database = value()?.into(),
                "-h" | "--help" => return Ok(Self::Print(HELP.to_owned())),
                "-V" | "--version" => return Ok(Self::Print(format!("shop {}\n", env!("CARGO_PKG_VERSION")))),
                _ => {
                    return Err(ShopError::Config(format!("unknown argument {argument:?}; see shop --help")));
                }
            }
        }
        Ok(Self::Run(config))
    }
}

fn staff(email: Option<String>, password: Option<String>) -> Result<Option<NewAccount>, ShopError> {
    match (email, password) {
        (None, None) => Ok(None),
        (Some(email), Some(password)) => NewAccount::new(&email, "Shopkeeper", &password)
            .map(Some)
            .map_err(|error| ShopError::Config(format!("SHOP_STAFF_EMAIL, SHOP_STAFF_PASSWORD: {error}"))),
        _ => Err(ShopError::Config("SHOP_STAFF_EMAIL and SHOP_STAFF_PASSWORD must be set together".to_owned())),
    }
}

fn parse_port(source: &str, text: &str) -> Result<u16, ShopError> {
    text.parse().map_err(|_| ShopError::Config(format!("{source} must be a port from 0 to 65535, not {text:?}")))
}

fn parse_address(source: &str, text: &str) -> Result<IpAddr, ShopError> {
    text.parse().map_err(|_| ShopError::Config(format!("{source} must be an IP address like 127.0.0.1, not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::{Command, Config};

    fn read(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Config, String> {
        let environment =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let arguments = arguments.iter().map(|argument| Ok((*argument).to_owned()));
        match Command::read(environment, arguments) {
            Ok(Command::Run(config)) => Ok(config),
            Ok(Command::Print(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn flags_win_over_the_environment() {
        let config = read(&[("PORT", "1"), ("SHOP_DATABASE", "/a")], &["--port", "2", "--bind=::1"]).unwrap();
        assert_eq!((config.port, config.bind.to_string().as_str()), (2, "::1"));
        assert_eq!(config.database, std::path::Path::new("/a"));
    }

    #[test]
    fn wrong_settings_are_named() {
        for (environment, arguments, named) in [
            (&[("PORT", "http")][..], &[][..], "PORT"),
            (&[], &["--port"], "--port needs a value"),
            (&[], &["--prot", "1"], "--prot"),
            (&[("SHOP_BIND", "localhost")], &[], "SHOP_BIND"),
            (&[("SHOP_ADMIN_TOKEN", "short")], &[], "SHOP_ADMIN_TOKEN"),
            (&[("SHOP_STAFF_EMAIL", "a@b.cd")], &[], "SHOP_STAFF_PASSWORD"),
        ] {
            let error = read(environment, arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
