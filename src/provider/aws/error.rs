//! What an AWS call that failed means for who made it.

use aws_sdk_ebs::error::SdkError;
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata};

use crate::error::Error;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The API's name of the call.
    pub call: &'static str,
    /// What it means.
    pub kind: Kind,
    /// AWS's words.
    pub words: String,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too much was asked in too short a time; it was not done.
    Throttled,
    /// It may have been done or not: no answer, half an answer, or an error of AWS's own.
    Unclear,
    /// What it is about is not there, or not yet.
    Missing,
    /// The name is another's.
    Taken,
    /// Something else needs it, or did a moment ago.
    Used,
    /// These credentials may not.
    Denied,
    /// The account has as many of these as it may have.
    Quota,
    /// AWS does not want it so.
    Refused,
}

impl CallError {
    /// Reads an SDK error.
    pub fn of<E>(call: &'static str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let (kind, words) = match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or_default();
                let status = service.raw().status().as_u16();
                let words = service.err().message().unwrap_or_default();
                (of_code(code, status), format!("{code} ({status}): {words}"))
            }
            // The request was never built: credentials or values are missing.
            SdkError::ConstructionFailure(_) => (Kind::Denied, DisplayErrorContext(error).to_string()),
            // It was never sent, for a reason that is no mishap on the way: no credentials could be had.
            SdkError::DispatchFailure(failure)
                if failure.is_user() || failure.is_other() && failure.as_other().is_none() =>
            {
                (Kind::Denied, DisplayErrorContext(error).to_string())
            }
            _ => (Kind::Unclear, DisplayErrorContext(error).to_string()),
        };
        Self { call, kind, words }
    }

    /// A call that was answered without what an answer must have.
    #[must_use]
    pub fn empty(call: &'static str, what: &str) -> Self {
        Self { call, kind: Kind::Unclear, words: format!("the answer has no {what}") }
    }

    /// Tells whether asking again, after a look, may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Unclear | Kind::Missing | Kind::Used)
    }

    /// Makes it an error for people.
    #[must_use]
    pub fn in_place(self, place: &str) -> Error {
        let error = Error::failed(format!("AWS {} in {place}: {}", self.call, self.words));
        match self.kind {
            Kind::Denied => error.hint(format!(
                "check the credentials (`aws sts get-caller-identity`) and that they allow {}: `rekiln aws policy` \
                 prints all that is needed; `aws sts decode-authorization-message` reads an encoded reason",
                self.call
            )),
            Kind::Quota => error.hint(
                "`rekiln gc` removes AMIs and snapshots that nothing reaches; else have the quota raised (AWS's console, \
                 Service Quotas); what is begun is kept: run it again to go on",
            ),
            Kind::Throttled | Kind::Unclear => error
                .hint("AWS or the way to it fails for long; what is begun is kept: run it again to go on"),
            Kind::Missing | Kind::Taken | Kind::Used | Kind::Refused => error,
        }
    }
}

/// Codes as the service models have them; EC2's are listed in its API reference under "Error codes".
fn of_code(code: &str, status: u16) -> Kind {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "SlowDown"
        | "RateExceeded"
        | "ConcurrentLimitExceededException"
        | "ConcurrentSnapshotLimitExceeded"
        | "PendingSnapshotLimitExceeded"
        | "ConcurrentCreateSnapshotLimitExceeded" => Kind::Throttled,
        "InvalidSnapshot.NotFound"
        | "InvalidAMIID.NotFound"
        | "InvalidAMIID.Unavailable"
        | "InvalidInstanceID.NotFound"
        | "InvalidGroup.NotFound"
        | "InvalidLaunchTemplateId.NotFound"
        | "InvalidLaunchTemplateId.VersionNotFound"
        | "InvalidLaunchTemplateName.NotFoundException"
        | "ResourceNotFoundException"
        | "ParameterNotFound"
        | "ParameterVersionNotFound" => Kind::Missing,
        "InvalidAMIName.Duplicate"
        | "InvalidLaunchTemplateName.AlreadyExistsException"
        | "InvalidGroup.Duplicate"
        | "AlreadyExists"
        | "AlreadyExistsFault" => Kind::Taken,
        // An AMI that was deregistered a moment ago may still count.
        "InvalidSnapshot.InUse"
        // The interface of an instance that was terminated a moment ago may still hold its security group.
        | "DependencyViolation"
        | "ScalingActivityInProgress"
        | "ScalingActivityInProgressFault"
        | "ResourceContention"
        | "ResourceContentionFault" => Kind::Used,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "OptInRequired" => Kind::Denied,
        // `SnapshotLimitExceeded`, `ResourceLimitExceeded`, `ParameterLimitExceeded`, and so on: there are many, and new
        // ones come; those that are about rates are named above.
        "ServiceQuotaExceededException" => Kind::Quota,
        _ if code.ends_with("LimitExceeded") || code.ends_with("QuotaExceeded") => Kind::Quota,
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 => Kind::Unclear,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_they_cause() {
        let table = [
            ("RequestLimitExceeded", 503, Kind::Throttled),
            ("RequestThrottledException", 400, Kind::Throttled),
            ("ServiceUnavailable", 503, Kind::Unclear),
            ("", 500, Kind::Unclear),
            ("", 429, Kind::Throttled),
            ("InvalidSnapshot.NotFound", 400, Kind::Missing),
            ("ParameterNotFound", 400, Kind::Missing),
            ("InvalidAMIName.Duplicate", 400, Kind::Taken),
            ("InvalidLaunchTemplateName.AlreadyExistsException", 400, Kind::Taken),
            ("AlreadyExists", 400, Kind::Taken),
            ("InvalidSnapshot.InUse", 400, Kind::Used),
            ("ConcurrentLimitExceededException", 400, Kind::Throttled),
            ("PendingSnapshotLimitExceeded", 400, Kind::Throttled),
            ("ServiceQuotaExceededException", 402, Kind::Quota),
            ("SnapshotLimitExceeded", 400, Kind::Quota),
            ("ParameterLimitExceeded", 400, Kind::Quota),
            ("InvalidLaunchTemplateId.VersionNotFound", 400, Kind::Missing),
            ("UnauthorizedOperation", 403, Kind::Denied),
            ("ExpiredTokenException", 400, Kind::Denied),
            ("InvalidParameterValue", 400, Kind::Refused),
            ("ScalingActivityInProgress", 400, Kind::Used),
            ("RateExceeded", 400, Kind::Throttled),
            ("ConflictException", 409, Kind::Refused),
        ];
        for (code, status, kind) in table {
            assert_eq!(of_code(code, status), kind, "{code} {status}");
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let passes = |kind| CallError { call: "PutSnapshotBlock", kind, words: String::new() }.may_pass();
        assert!(passes(Kind::Throttled) && passes(Kind::Unclear));
        assert!(passes(Kind::Missing) && passes(Kind::Used));
        assert!(
            !passes(Kind::Quota) && !passes(Kind::Taken) && !passes(Kind::Denied) && !passes(Kind::Refused)
        );
    }
}
