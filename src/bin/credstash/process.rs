//! What the process as a whole must not do.

use nix::sys::resource::{Resource, setrlimit};

/// Secrets pass through this process's memory: it must not end up in a core file, nor be read by a debugger of the
/// same user. Where the system does not let us ask for that, we go on without.
pub(crate) fn forbid_core_dumps() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}
