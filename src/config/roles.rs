//! `roles`: what this process does.

use serde::{Deserialize, Serialize};

use super::Problem;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes events and commits them.
    Collect,
    /// Serves pages and the API.
    Web,
    /// Seals, compacts and runs tickets.
    Work,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(Vec<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(vec![Role::Collect, Role::Web, Role::Work])
    }
}

impl Roles {
    pub fn collect(&self) -> bool {
        self.0.contains(&Role::Collect)
    }

    pub fn web(&self) -> bool {
        self.0.contains(&Role::Web)
    }

    pub fn work(&self) -> bool {
        self.0.contains(&Role::Work)
    }

    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        if self.0.is_empty() {
            problems.push(Problem::new("roles", "", "name at least one of collect, web, work"));
        }
    }
}
