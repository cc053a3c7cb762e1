//! Who works on a project, and in which role.

use super::{Access, AccountError, CreateAccount};
use crate::model::{AccountId, ProjectId, Role};
use crate::storage::StorageError;
use crate::storage::control::accounts::find_account_by_email;
use crate::storage::control::members::{self, Member, MembershipChange};

/// More than a page lists, or one project has any use for.
pub const MEMBERS_MAX: u32 = 500;

#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("{0} is a member already")]
    AlreadyMember(String),
    #[error("the account is no member of the project")]
    NoMember,
    /// Without an owner nobody but an administrator could change the project any more.
    #[error("the project would have no owner")]
    LastOwner,
    #[error("the project has {MEMBERS_MAX} members, and more are not possible")]
    TooMany,
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

pub struct AddedMember {
    pub email: String,
    /// The password of the account, when it was made for this: shown once.
    pub password: Option<String>,
}

impl Access {
    /// By email address, at most [`MEMBERS_MAX`].
    pub async fn list_members(&self, project_id: ProjectId) -> Result<Vec<Member>, StorageError> {
        members::list_members(&self.storage.control, project_id, MEMBERS_MAX).await
    }

    /// Makes the account of this email a member; it is created when there is none.
    pub async fn add_member(
        &self,
        project_id: ProjectId,
        email: &str,
        role: Role,
    ) -> Result<AddedMember, MemberError> {
        let listed = self.list_members(project_id).await?;
        if listed.len() >= MEMBERS_MAX as usize {
            return Err(MemberError::TooMany);
        }
        let email = email.trim().to_lowercase();
        if listed.iter().any(|member| member.email == email) {
            return Err(MemberError::AlreadyMember(email));
        }
        let (account_id, password) = match find_account_by_email(&self.storage.control, &email).await? {
            Some(account) => (account.account_id, None),
            None => {
                let create = CreateAccount { email: email.clone(), password: None, is_admin: false };
                self.create_account(create).await?
            }
        };
        let now = self.clock.now_ms();
        if !members::add_member(&self.storage.control, account_id, project_id, role, now).await? {
            return Err(MemberError::AlreadyMember(email));
        }
        self.forget_member(account_id, project_id);
        Ok(AddedMember { email, password })
    }

    pub async fn change_role(
        &self,
        project_id: ProjectId,
        account_id: AccountId,
        role: Role,
    ) -> Result<(), MemberError> {
        self.change_member(project_id, account_id, Some(role)).await
    }

    pub async fn remove_member(
        &self,
        project_id: ProjectId,
        account_id: AccountId,
    ) -> Result<(), MemberError> {
        self.change_member(project_id, account_id, None).await
    }

    async fn change_member(
        &self,
        project_id: ProjectId,
        account_id: AccountId,
        role: Option<Role>,
    ) -> Result<(), MemberError> {
        let changed = members::change_member(&self.storage.control, account_id, project_id, role).await?;
        self.forget_member(account_id, project_id);
        match changed {
            MembershipChange::Done => Ok(()),
            MembershipChange::NoMember => Err(MemberError::NoMember),
            MembershipChange::LastOwner => Err(MemberError::LastOwner),
        }
    }

    /// What this replica knew of the membership; the others believe it for seconds.
    fn forget_member(&self, account_id: AccountId, project_id: ProjectId) {
        self.memberships.forget(&(account_id, project_id));
        self.projects_of.forget(&account_id);
    }
}
