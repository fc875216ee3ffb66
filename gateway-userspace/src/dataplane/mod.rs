//! The kernel relay from userspace: load, attach, pin, adopt, program flows; and the plain-socket reference.
