//! Rights that a confined process does not have, and cannot get.

use rustix::{
    io::Errno,
    thread::{
        CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
        set_no_new_privs,
    },
};

use crate::{
    error::{At, Result, Step},
    sys,
};

/// Takes all special rights from this process and from what it will execute.
pub(crate) fn give_up() -> Result<()> {
    match sys::leave_the_keys() {
        // Some kernels and containers have no keys at all.
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            Err(error).at(Step::Keys)?;
        }
        _ => {}
    }
    capabilities().at(Step::Capabilities)?;
    set_no_new_privs(true).at(Step::NoNewPrivs)
}

/// Gives up the capabilities that this process has, and those that it would get from files or from being root.
fn capabilities() -> Result<(), Errno> {
    // Who lacks the right to change the bounding set has no capabilities, and no_new_privs keeps it so.
    match set_capabilities_secure_bits(locked()) {
        Ok(()) => (0..u64::BITS).try_for_each(remove_from_bounding_set)?,
        Err(Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets)
}

/// Being root means nothing, and that stays so.
fn locked() -> CapabilitiesSecureBits {
    CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
}

fn remove_from_bounding_set(bit: u32) -> Result<(), Errno> {
    match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
        // Beyond the last capability that this kernel knows.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}
