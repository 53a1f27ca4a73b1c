//! Asking one of several name servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    codes::response,
    error::{Error, ErrorKind, Result},
    frame::{Command, Request},
    pool::Pool,
};

#[derive(Debug)]
pub(crate) struct NameServers {
    addresses: Vec<Arc<str>>,
    /// The one that answered last.
    current: AtomicUsize,
}

impl NameServers {
    /// # Errors
    /// [`ErrorKind::InvalidInput`] unless every address is `host:port` and there is one.
    pub(crate) fn new(addresses: &[String]) -> Result<NameServers> {
        if addresses.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "no name server address: give at least one host:port",
            ));
        }
        for address in addresses {
            let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !valid {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("the name server address {address:?} should be host:port"),
                ));
            }
        }
        Ok(NameServers {
            addresses: addresses
                .iter()
                .map(|address| address.as_str().into())
                .collect(),
            current: AtomicUsize::new(0),
        })
    }

    /// Asks the one that answered last, then the others.
    ///
    /// # Errors
    /// What the last one asked said, or, if any answered as no name server does, that.
    pub(crate) async fn invoke(
        &self,
        pool: &Pool,
        request: &Request,
        timeout: Duration,
    ) -> Result<(Command, Arc<str>)> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failed: Option<Error> = None;
        for step in 0..self.addresses.len() {
            let index = (first + step) % self.addresses.len();
            let address = &self.addresses[index];
            match ask(pool, address, request.clone(), timeout).await {
                Ok(command) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok((command, Arc::clone(address)));
                }
                Err(error) => {
                    tracing::debug!(%error, "name server failed");
                    if failed
                        .as_ref()
                        .is_none_or(|e| e.kind() != ErrorKind::NotNameServer)
                    {
                        failed = Some(error);
                    }
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::InvalidInput, "no name server address")))
    }
}

async fn ask(
    pool: &Pool,
    address: &Arc<str>,
    request: Request,
    timeout: Duration,
) -> Result<Command> {
    let named = |error: Error| error.with_context("the name server");
    let connection = pool.get(address).await.map_err(named)?;
    let stranger = |why: &str| {
        Error::new(
            ErrorKind::NotNameServer,
            format!("this is no RocketMQ name server: {why}; check host and port"),
        )
        .with_address(address)
    };
    match pool.invoke(&connection, request, timeout).await {
        Ok(command) if command.code == response::REQUEST_CODE_NOT_SUPPORTED => {
            Err(stranger("it does not know the request (a broker?)"))
        }
        Ok(command) => Ok(command),
        Err(error) if error.kind() == ErrorKind::Protocol => Err(stranger(error.message())),
        Err(error) => Err(named(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, ClientOptions, test_peer};

    const CLUSTER: &str = r#"{"brokerAddrTable":{"a":{"cluster":"c","brokerName":"a","brokerAddrs":{"0":"127.0.0.1:1"}}},"clusterAddrTable":{"c":["a"]}}"#;

    fn client(servers: &[&Arc<str>]) -> Client {
        let mut options = ClientOptions::new(servers.iter().map(|address| &***address), "c");
        options.request_timeout = Duration::from_millis(500);
        Client::new(options).unwrap()
    }

    #[tokio::test]
    async fn name_server_that_is_down_is_unavailable_and_named() {
        let nobody = test_peer::nobody().await;
        let error = client(&[&nobody]).cluster_info().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.address(), Some(&*nobody));
        assert!(error.message().starts_with("the name server: "), "{error}");
    }

    #[tokio::test]
    async fn first_of_two_that_is_down_or_silent_is_passed_over() {
        let good = test_peer::serve(|command| test_peer::success(command, CLUSTER)).await;
        let silent = test_peer::serve(|_| Vec::new()).await;
        for bad in [test_peer::nobody().await, silent] {
            let info = client(&[&bad, &good]).cluster_info().await.unwrap();
            assert_eq!(info.brokers.len(), 1);
        }
    }

    #[tokio::test]
    async fn name_server_that_does_not_answer_is_a_timeout() {
        let silent = test_peer::serve(|_| Vec::new()).await;
        let error = client(&[&silent]).cluster_info().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[tokio::test]
    async fn what_is_no_name_server_is_said_to_be_none() {
        let http = test_peer::serve(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
        let broker = test_peer::serve(|command| {
            let code = response::REQUEST_CODE_NOT_SUPPORTED;
            crate::frame::encode_response(code, command.opaque, "unknown").to_vec()
        })
        .await;
        let stranger = test_peer::serve(|command| test_peer::success(command, "[1]")).await;
        for address in [http, broker, stranger] {
            let error = client(&[&address]).cluster_info().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotNameServer, "{error}");
        }
    }
}
