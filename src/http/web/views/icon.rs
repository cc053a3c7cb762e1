//! The icons: 24-unit line drawings, set inline so that they take the text's colour and need no
//! request of their own.

/// The icon as SVG, for `{{ icon::svg("ask")|safe }}`. Panics on an unknown name, which the test
/// that renders every page would meet first.
pub fn svg(name: &str) -> String {
    let Some((_, shape)) = SHAPES.iter().find(|(known, _)| *known == name) else {
        panic!("there is no icon named {name}");
    };
    format!(r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{shape}</svg>"#)
}

const SHAPES: &[(&str, &str)] = &[
    ("weir", r#"<path d="M2.5 6h8c3.5 0 3.5 12 7 12h4"/><path d="M2.5 11h5c3.2 0 3 7 6.5 7"/>"#),
    ("overview", r#"<path d="M4 4v16h16"/><path d="m8 15 3.5-4 3 2.5L20 7"/>"#),
    ("ask", r#"<circle cx="11" cy="11" r="6.5"/><path d="m20 20-4.2-4.2"/>"#),
    ("live", r#"<path d="M3 12h4l3-7 4 14 3-7h4"/>"#),
    (
        "tickets",
        r#"<path d="M4 6.5h16v3.5a2 2 0 0 0 0 4v3.5H4V14a2 2 0 0 0 0-4z"/><path d="M14 7v2m0 2.5v1m0 2.5v2"/>"#,
    ),
    ("start", r#"<circle cx="12" cy="12" r="8.5"/><path d="m10.5 9 4 3-4 3z"/>"#),
    (
        "settings",
        r#"<path d="M4 7h8m6 0h2M4 17h2m6 0h8"/><circle cx="15" cy="7" r="2.5"/><circle cx="9" cy="17" r="2.5"/>"#,
    ),
    (
        "projects",
        r#"<rect x="4" y="4" width="7" height="7" rx="1.5"/><rect x="13" y="4" width="7" height="7" rx="1.5"/><rect x="4" y="13" width="7" height="7" rx="1.5"/><rect x="13" y="13" width="7" height="7" rx="1.5"/>"#,
    ),
    (
        "members",
        r#"<circle cx="9" cy="8" r="3.5"/><path d="M2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M15.5 4.8a3.5 3.5 0 0 1 0 6.4M17.5 14.4c2.3.7 3.7 2.5 4 5.6"/>"#,
    ),
    ("key", r#"<circle cx="8" cy="15" r="4"/><path d="m11 12 8-8m-3 3 3 3"/>"#),
    ("down", r#"<path d="m6 9 6 6 6-6"/>"#),
    ("up", r#"<path d="m6 15 6-6 6 6"/>"#),
    ("plus", r#"<path d="M12 5v14M5 12h14"/>"#),
    ("close", r#"<path d="m6 6 12 12M18 6 6 18"/>"#),
    ("menu", r#"<path d="M4 7h16M4 12h16M4 17h16"/>"#),
    (
        "theme",
        r#"<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17a8.5 8.5 0 0 0 0-17z" fill="currentColor"/>"#,
    ),
    ("logout", r#"<path d="M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h9"/>"#),
    ("warning", r#"<path d="M12 4 2.8 19.5h18.4zM12 10v4.5m0 2.5v.1"/>"#),
    ("info", r#"<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5m0-8.5v.1"/>"#),
    ("check", r#"<path d="m5 12.5 4.5 4.5L19 7"/>"#),
    ("inbox", r#"<path d="M4 13 6.5 5h11L20 13v6H4zM4 13h5l1 2.5h4l1-2.5h5"/>"#),
    ("rejected", r#"<circle cx="12" cy="12" r="8.5"/><path d="m6 6 12 12"/>"#),
    (
        "calendar",
        r#"<rect x="4" y="5.5" width="16" height="14.5" rx="2"/><path d="M4 10h16M8.5 3.5v4m7-4v4"/>"#,
    ),
    (
        "link",
        r#"<path d="M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1"/>"#,
    ),
    ("table", r#"<rect x="4" y="5" width="16" height="14" rx="2"/><path d="M4 10h16M10 10v9"/>"#),
];
