//! What survives a restart: call checkpoints and the CDR file.
