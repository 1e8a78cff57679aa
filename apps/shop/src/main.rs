//! The program `shop`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    evenkeel_shop::main_from_env()
}
