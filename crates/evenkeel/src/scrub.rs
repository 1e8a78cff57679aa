//! Taking variables that are secrets out of our own environment.
//!
//! The kernel shows the environment that a process began with in `/proc/PID/environ` (proc(5)), whatever becomes of it
//! later, and whatever we start would inherit it. So `keel up` puts such values into a file in memory that has no
//! name (`memfd_create(2)`) and becomes itself again, under the same process id, without the variables. The node process
//! reads that file through the guard; it is passed on to nobody.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use evenkeel_core::stack::Stack;
use evenkeel_node::HANDED_VARIABLE;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
};

use crate::failure::Failure;

/// From here on no descriptor has a meaning by its number.
const FIRST_NUMBER: i32 = 64;

/// Becomes this program again without the variables that are sources of secrets, where there are any. To be called
/// before anything is started or locked.
pub(crate) fn hide(stack: &Stack) -> Result<(), Failure> {
    let named = stack.secrets.values().filter_map(|source| source.env.as_deref());
    let values: BTreeMap<&str, String> = named.filter_map(|name| Some((name, env::var(name).ok()?))).collect();
    if values.is_empty() {
        keep_to_ourselves();
        return Ok(());
    }
    let failed = |error: io::Error| {
        Failure::new("secrets cannot be taken out of the environment").because(error).fix("give them by `file` instead")
    };
    let file = nameless(&values).map_err(failed)?;
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_else(|| OsString::from("keel"));
    let mut again =
        Command::new(env::current_exe().ok().filter(|path| path.exists()).unwrap_or("/proc/self/exe".into()));
    again.arg0(program).args(arguments).env(HANDED_VARIABLE, file.as_raw_fd().to_string());
    for name in values.keys() {
        again.env_remove(name);
    }
    fcntl_setfd(&file, FdFlags::empty()).map_err(|error| failed(error.into()))?;
    Err(failed(again.exec()))
}

/// What was handed over by ourselves must not reach those whom we start.
fn keep_to_ourselves() {
    let Some(number) = env::var(HANDED_VARIABLE).ok().and_then(|number| number.parse::<i32>().ok()) else { return };
    if number >= FIRST_NUMBER {
        // SAFETY: borrowed for one call, which fails where nothing is open under this number.
        let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC);
    }
}

/// A file in memory with these values, under a number that nobody else uses.
fn nameless(values: &BTreeMap<&str, String>) -> io::Result<OwnedFd> {
    let memory = File::from(memfd_create("keel-handed", MemfdFlags::CLOEXEC)?);
    let mut writer = &memory;
    writer.write_all(&serde_json::to_vec(values).map_err(io::Error::from)?)?;
    Ok(fcntl_dupfd_cloexec(&memory, FIRST_NUMBER)?)
}
