//! The scenarios that come with the generator, by name.

/// (name, text)
pub(super) const SHIPPED: [(&str, &str); 12] = [
    ("azure-echo", include_str!("../../scenarios/azure-echo.toml")),
    ("azure-broadcast", include_str!("../../scenarios/azure-broadcast.toml")),
    ("azure-small-group", include_str!("../../scenarios/azure-small-group.toml")),
    ("azure-big-group", include_str!("../../scenarios/azure-big-group.toml")),
    ("azure-p2p", include_str!("../../scenarios/azure-p2p.toml")),
    ("chat", include_str!("../../scenarios/chat.toml")),
    ("quotes", include_str!("../../scenarios/quotes.toml")),
    ("notifications", include_str!("../../scenarios/notifications.toml")),
    ("deploy", include_str!("../../scenarios/deploy.toml")),
    ("storm", include_str!("../../scenarios/storm.toml")),
    ("slow-readers", include_str!("../../scenarios/slow-readers.toml")),
    ("million-idle", include_str!("../../scenarios/million-idle.toml")),
];
