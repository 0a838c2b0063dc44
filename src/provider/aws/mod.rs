//! AWS: the only place that knows its SDK.
//!
//! Every call is made once: what to do when it fails is decided by who asked, from a new look. So nothing is retried
//! behind the back of the ledger, and a call that may have been carried out is never taken for one that was not.

mod audit;
mod bucket;
mod builder;
mod doors;
mod error;
pub mod group;
mod images;
mod launcher;
mod reach;
mod snapshot_disk;
mod snapshots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_ec2::config::retry::RetryPartition;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_sdk_sts::config::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

pub use bucket::Buckets;
pub use builder::{Found, Launched, Launching, Phase, Subnet, VendorImage};
pub use error::{CallError, Kind};
pub use images::Registration;
pub use reach::{Group, Template, Version};
pub use snapshots::{Beginning, Readable};

use crate::error::{Error, Result};

/// How long connecting may take, and how long a whole call. A block is half a megabyte: NixOS found 5 s and 12 s to
/// tell slow from stuck; a line of 0.5 Mbit/s still gets one across.
const CONNECT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(15);

/// How a launch template names a parameter instead of an AMI (EC2 user guide, "Use a Systems Manager parameter instead
/// of an AMI ID").
pub const RESOLVE: &str = "resolve:ssm:";

/// What a session of an assumed role is called in AWS's logs.
const SESSION: &str = "rekiln";

/// One account in one region.
#[derive(Debug, Clone)]
pub struct Aws {
    /// The account's number.
    pub account: String,
    /// The region's name.
    pub region: String,
    autoscaling: aws_sdk_autoscaling::Client,
    balancing: aws_sdk_elasticloadbalancingv2::Client,
    ebs: aws_sdk_ebs::Client,
    ec2: aws_sdk_ec2::Client,
    iam: aws_sdk_iam::Client,
    ssm: aws_sdk_ssm::Client,
    counted: Counted,
}

impl Aws {
    /// Finds credentials as every AWS tool does (environment, profiles, SSO, web identity, container and instance
    /// roles), assumes `role` with them if that is asked for, and asks whose they are then.
    ///
    /// # Errors
    /// There are none, or they are not valid.
    pub async fn connect(region: &str, role: Option<&str>) -> Result<Self> {
        let mut config = configure(region).await;
        if let Some(role) = role {
            assume(&config, region, role).await?;
            // Sessions end after an hour, and this renews them.
            let session = AssumeRoleProvider::builder(role).session_name(SESSION).configure(&config).build();
            let session = SharedCredentialsProvider::new(session.await);
            config = config.into_builder().credentials_provider(session).build();
        }
        let sts = aws_sdk_sts::Client::new(&config);
        let identity = insist(region, || async {
            let identity = sts.get_caller_identity().send().await;
            identity.map_err(|error| CallError::of("GetCallerIdentity", &error))
        });
        let identity = identity.await?;
        let Some(account) = identity.account else {
            return Err(Error::failed(format!("AWS does not say whose credentials these are in {region}")));
        };
        let counted = Counted::default();
        // One budget for all that this process asks of a service in an account and region: once AWS says that it is too much,
        // the SDK measures how much was too much, and no caller goes beyond that.
        let budget = |service: &str| RetryPartition::new(format!("{account} {region} {service}"));
        let paced = RetryConfig::adaptive().with_max_attempts(1);
        let autoscaling = aws_sdk_autoscaling::config::Builder::from(&config)
            .retry_config(paced.clone())
            .retry_partition(budget("autoscaling"))
            .interceptor(counted.clone());
        let balancing = aws_sdk_elasticloadbalancingv2::config::Builder::from(&config)
            .retry_config(paced.clone())
            .retry_partition(budget("elasticloadbalancing"));
        let ec2 = aws_sdk_ec2::config::Builder::from(&config)
            .retry_config(paced)
            .retry_partition(budget("ec2"))
            .interceptor(counted.clone());
        Ok(Self {
            account,
            region: region.to_owned(),
            autoscaling: aws_sdk_autoscaling::Client::from_conf(autoscaling.build()),
            balancing: aws_sdk_elasticloadbalancingv2::Client::from_conf(
                balancing.interceptor(counted.clone()).build(),
            ),
            ebs: aws_sdk_ebs::Client::new(&config),
            ec2: aws_sdk_ec2::Client::from_conf(ec2.build()),
            iam: aws_sdk_iam::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            counted,
        })
    }
}

/// Finds the settings and credentials that every AWS tool finds.
async fn configure(region: &str) -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(CALL).build();
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .load()
        .await
}

/// Counts the calls of instances, groups and load balancers: all of the account shares what AWS allows of them.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<AtomicU64>);

impl Intercept for Counted {
    fn name(&self) -> &'static str {
        "rekiln's count of calls"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Aws {
    /// Returns how many calls about instances, groups and load balancers were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.counted.0.load(Ordering::Relaxed)
    }

    /// Makes sure that this is the account that a file names, where it names one.
    ///
    /// # Errors
    /// It is another one.
    pub fn must_be(&self, account: Option<&str>) -> Result<()> {
        match account.filter(|wanted| *wanted != self.account) {
            None => Ok(()),
            Some(wanted) => Err(Error::failed(format!(
                "the fleet is in account {wanted}, and these credentials are of account {}",
                self.account
            ))
            .hint("choose other credentials, such as with AWS_PROFILE, or let `assume_role` in [aws] name a role")),
        }
    }
}

/// Makes sure that a role may be assumed: what comes from within the SDK's own provider does not say what AWS said.
async fn assume(config: &SdkConfig, region: &str, role: &str) -> Result<()> {
    let sts = aws_sdk_sts::Client::new(config);
    let assumed = insist(region, || async {
        let assumed = sts.assume_role().role_arn(role).role_session_name(SESSION).send().await;
        assumed.map_err(|error| CallError::of("AssumeRole", &error))
    });
    assumed.await.map(drop).map_err(|error| error.during(format!("assuming {role}")))
}

/// Asks until there is an answer, or it fails for too long.
///
/// # Errors
/// As [`Patience::after`].
pub async fn insist<T, F>(region: &str, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut patience = Patience::default();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => patience.after(error, region).await?,
        }
    }
}

/// How long failures in a row are borne.
#[derive(Debug, Default)]
pub struct Patience {
    /// Failures since something worked.
    failures: u32,
    /// Whether Ctrl-C does not end it: what is being removed is removed.
    to_the_end: bool,
}

/// The first wait after a failure; doubled after each further one.
const WAIT: Duration = Duration::from_millis(100);
/// The longest wait. AWS's own tools wait at most 20 s between two tries; we try more often, and longer.
const LONGEST: Duration = Duration::from_secs(10);
/// How many failures in a row are borne: with these waits about a minute and a half.
const MOST: u32 = 14;

impl Patience {
    /// Waits after a failure that may pass, longer each time.
    ///
    /// # Errors
    /// One that does not pass, or has not for too long.
    pub async fn after(&mut self, error: CallError, place: &str) -> Result<()> {
        self.failures += 1;
        if !error.may_pass() || self.failures > MOST {
            return Err(error.in_place(place));
        }
        let wait = WAIT.saturating_mul(1 << (self.failures - 1).min(10)).min(LONGEST);
        let end = tokio::time::Instant::now() + wait;
        // Ctrl-C ends the wait.
        while tokio::time::Instant::now() < end {
            if !self.to_the_end {
                crate::interrupt::check()?;
            }
            tokio::time::sleep(WAIT.min(end - tokio::time::Instant::now())).await;
        }
        Ok(())
    }

    /// The same, for removing what is temporary: Ctrl-C does not end it, for it may be what began it.
    #[must_use]
    pub const fn to_the_end() -> Self {
        Self { failures: 0, to_the_end: true }
    }

    /// Something worked.
    pub const fn renew(&mut self) {
        self.failures = 0;
    }
}
