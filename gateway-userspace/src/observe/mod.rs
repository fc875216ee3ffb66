//! Domain events and their subscribers: metrics, call detail records, ladders.
