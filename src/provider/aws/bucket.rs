//! Do: a bucket, through the object store that journals are written with, with AWS's own credentials and HTTP client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ec2::config::{ProvideCredentials as _, SharedAsyncSleep};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::client::{
    ClientOptions, CredentialProvider, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use tokio::sync::Mutex;

use super::{CALL, CONNECT, configure};
use crate::error::{Doing as _, Result};
use crate::objects::{Bucket, S3Url, failed};

/// How long before their end credentials are renewed: longer than any call takes with all its tries.
const EARLY: Duration = Duration::from_mins(5);
/// How long one request is tried, with all its tries: about as long as other calls of AWS are borne.
const RETRIED: Duration = Duration::from_secs(90);

/// The buckets that were reached, each once.
#[derive(Debug, Clone, Default)]
pub struct Buckets(Arc<std::sync::Mutex<BTreeMap<String, Bucket>>>);

impl Buckets {
    /// Returns what is at a URL, reached for the first time when it was not before; a bucket whose region is not said is in
    /// `region`.
    ///
    /// # Errors
    /// There is no such bucket; these credentials may not list what is in it.
    pub async fn of(&self, url: &S3Url, region: &str) -> Result<Bucket> {
        let key = url.to_string();
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let bucket = reach(url, url.region.as_deref().unwrap_or(region)).await?;
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, bucket.clone());
        Ok(bucket)
    }
}

/// Reaches a bucket, and lists what is there once: without the right to, S3 says of an object that is missing that nobody
/// may read it (S3 API reference, `GetObject`), and of a bucket that is missing that its objects are.
async fn reach(url: &S3Url, region: &str) -> Result<Bucket> {
    let config = configure(region).await;
    let doing = || format!("opening the bucket {} in {region}", url.bucket);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&url.bucket)
        .with_region(region)
        .with_credentials(Arc::new(Credentials { config: config.clone(), known: Mutex::default() }))
        .with_http_connector(Https { sleep: config.sleep_impl() })
        .with_retry(RetryConfig { retry_timeout: RETRIED, ..RetryConfig::default() });
    // As the SDK has it for all services, or for this one.
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").ok();
    if let Some(endpoint) = endpoint.as_deref().or_else(|| config.endpoint_url()) {
        builder = builder.with_endpoint(endpoint).with_allow_http(true);
    }
    let objects: Arc<dyn ObjectStore> = Arc::new(builder.build().doing(doing)?);
    let prefix = Path::from(url.prefix.as_str());
    objects.list_with_delimiter(Some(&prefix)).await.map_err(|error| failed(&error, &doing()))?;
    Ok(Bucket { objects, prefix, url: url.to_string() })
}

/// Credentials as every AWS tool finds them, kept until they are about to end.
#[derive(Debug)]
struct Credentials {
    config: SdkConfig,
    known: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut known = self.known.lock().await;
        if let Some((credential, until)) = &*known
            && until.is_none_or(|until| SystemTime::now() + EARLY < until)
        {
            return Ok(Arc::clone(credential));
        }
        let generic = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "S3",
            source,
        };
        let Some(provider) = self.config.credentials_provider() else {
            return Err(generic("there are no AWS credentials".into()));
        };
        let found = provider.provide_credentials().await.map_err(|error| generic(Box::new(error)))?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *known = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}

/// The HTTP client that all of AWS is called with here.
#[derive(Debug)]
struct Https {
    /// What time-outs are waited for with.
    sleep: Option<SharedAsyncSleep>,
}

impl HttpConnector for Https {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).read_timeout(CALL).build();
        let mut connector = Connector::builder()
            .connector_settings(settings)
            .tls_provider(Provider::Rustls(CryptoMode::Ring));
        connector.set_sleep_impl(self.sleep.clone());
        let connector = connector.build();
        Ok(HttpClient::new(Requests(SharedHttpConnector::new(connector))))
    }
}

#[derive(Debug)]
struct Requests(SharedHttpConnector);

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let unknown = |error: Box<dyn std::error::Error + Send + Sync>| {
            HttpError::new_boxed(HttpErrorKind::Unknown, error)
        };
        let request = request.map(SdkBody::from_body_1_x);
        let request = request.try_into().map_err(|error| unknown(Box::new(error)))?;
        let answer = self.0.call(request).await.map_err(|error| {
            // Nothing was sent where no connection was had; else it may have arrived.
            let kind = match &error {
                error if error.is_timeout() => HttpErrorKind::Timeout,
                error if error.is_io() => HttpErrorKind::Interrupted,
                _ => HttpErrorKind::Unknown,
            };
            HttpError::new(kind, error)
        })?;
        let answer = answer.try_into_http1x().map_err(|error| unknown(Box::new(error)))?;
        let (head, body) = answer.into_parts();
        let body = ByteStream::new(body).collect().await;
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
        Ok(HttpResponse::from_parts(head, body.into_bytes().into()))
    }
}
