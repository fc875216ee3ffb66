//! Which trunk a request came from and where a call goes: snapshot in, decision out, no I/O.
