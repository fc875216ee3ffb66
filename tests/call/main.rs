//! Call scenarios on virtual time.
