//! The admin thread: HTTP for metrics, health and queries; every question from outside is one [`command`].
