//! Where do the shim's settings come from? The environment and the file beside the library.

use std::path::{Path, PathBuf};

use cryptoki_sys::CK_FUNCTION_LIST;

use crate::faults::Faults;
use crate::journal::Journal;
use crate::quirks::Quirks;
use crate::sessions::Sessions;
use crate::{C_GetFunctionList, Shim};

/// Reads the settings and loads the real library.
pub fn load() -> Result<Shim, String> {
    add_file()?;
    let module = variable("P11SHIM_MODULE").ok_or("P11SHIM_MODULE names no library")?;
    let quirks = Quirks::parse(
        &variable("P11SHIM_QUIRKS").unwrap_or_default(),
        &variable("P11SHIM_MECHANISMS").unwrap_or_default(),
    )?;
    let faults = Faults::new(variable("P11SHIM_FAULTS").map(PathBuf::from));
    let journal = Journal::open(variable("P11SHIM_LOG").as_deref().map(Path::new))?;
    let (real, sessions, login) = (real_library(&module)?, Sessions::default(), variable("P11SHIM_LOGIN"));
    Ok(Shim { real, quirks, faults, journal, sessions, login })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Adds `shim.env` to the environment; what stands there already stays.
fn add_file() -> Result<(), String> {
    let Some(beside) = own_path().and_then(|path| path.parent().map(|folder| folder.join("shim.env"))) else {
        return Ok(());
    };
    let Ok(text) = std::fs::read_to_string(&beside) else { return Ok(()) };
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=').ok_or_else(|| format!("{}: no `=`: {line}", beside.display()))?;
        if std::env::var_os(name).is_none() {
            // SAFETY: runs once, in the first C_GetFunctionList, before the real library is loaded; the programs that
            // load this library read their environment before that and in no other thread.
            unsafe { std::env::set_var(name, value) };
        }
    }
    Ok(())
}

/// The file that this code was loaded from: the mapping that holds one of its functions.
fn own_path() -> Option<PathBuf> {
    let here = C_GetFunctionList as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let (range, _) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let bounds = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        (bounds.0..bounds.1).contains(&here).then(|| line.find('/').map(|at| PathBuf::from(&line[at..])))?
    })?;
    Some(path)
}

fn real_library(path: &str) -> Result<CK_FUNCTION_LIST, String> {
    // SAFETY: loading runs the library's initialisers, which is what whoever set P11SHIM_MODULE wants.
    let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|error| format!("{path}: {error}"))?;
    if let Err(error) = &library.C_GetFunctionList {
        return Err(format!("{path}: {error}"));
    }
    let mut list = std::ptr::null_mut();
    // SAFETY: the symbol exists, and the argument is a place for one pointer.
    let code = unsafe { library.C_GetFunctionList(&raw mut list) };
    if code != cryptoki_sys::CKR_OK || list.is_null() {
        return Err(format!("{path}: C_GetFunctionList answered {code:#x}"));
    }
    // Never unloaded: its threads and exit handlers would run in unmapped code.
    std::mem::forget(library);
    // SAFETY: CKR_OK with a list that is not null, which lives as long as the library.
    Ok(unsafe { *list })
}
