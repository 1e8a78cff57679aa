//! The reference shop: an ordinary twelve-factor web application that keeps its data in one `SQLite` file.
//!
//! Several instances share the file, and any of them may be killed or frozen at any moment without an order
//! being lost or doubled. The crate knows nothing of the program that supervises it: it listens on `PORT`,
//! answers `/healthz`, stops on SIGTERM and writes its log to standard error.
//!
//! [`main_from_env`] is the whole program, [`main_with`] the same with other arguments; [`run`] takes the settings as a value; [`Shop`] is an instance that
//! was opened and can be served inside another program.

mod checkout;
mod config;
mod domain;
mod error;
mod logging;
mod password;
mod payment;
mod serve;
mod store;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;

pub use checkout::Checkout;
pub use config::{Command, Config, Role};
pub use domain::{
    Account, AccountId, CATEGORIES, Cart, CartId, CartLine, CategoryInfo, Cents, Email, IdempotencyKey, NewAccount,
    NewOrder, NewProduct, Order, OrderContent, OrderId, OrderLine, OrderStatus, PAGE_SIZE, Placed, Product, ProductId,
    ProductPage, ProductQuery, Quantity, SHAPES, Session, Sort,
};
pub use error::ShopError;
pub use payment::{
    Charge, ChargeFuture, ChargeOutcome, ChargeRecord, Method, PaymentError, PaymentProvider, RemoteTill, TILL_HOST,
    TestProvider,
};
pub use serve::{Shop, run};
pub use store::{LOCK_WAIT, PendingPayment, Store};

/// The program `shop`: [`main_with`] the process's own arguments.
pub fn main_from_env() -> ExitCode {
    main_with(std::env::args_os().skip(1))
}

/// The whole program: settings from the environment and `arguments` (without a program's name), log to standard
/// error, an instance until SIGTERM or SIGINT. Blocks. For a program that is the shop only when asked to.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    logging::start();
    // The database holds addresses and password hashes: its files are for the user that runs the shop.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let ended = match Command::from_environment(arguments) {
        Ok(Command::Run(config)) => run(config),
        Ok(Command::Print(text)) => {
            // Nobody is left to be told that standard output is closed.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            Ok(())
        }
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the shop cannot run");
            ExitCode::FAILURE
        }
    }
}
