package main

import (
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const (
	shards    = 4                                      // fixed for ever once a database is written
	clusterID = "5f0b7c1e-3a54-4b6e-9f6d-74b2a7c0e911" // must not change between starts
)

func newServer(o options, s store, logger log.Logger) (temporal.Server, error) {
	conf := configOf(o, s)
	if err := conf.Validate(); err != nil {
		return nil, err
	}
	certificates, err := tlsOf(o.tls)
	if err != nil {
		return nil, err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&conf.Global.Authorization, logger)
	if err != nil {
		return nil, err
	}
	authorizer, err := authorization.GetAuthorizerFromConfig(&conf.Global.Authorization)
	if err != nil {
		return nil, err
	}
	return temporal.NewServer(
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(map[primitives.ServiceName]static.Hosts{
			primitives.FrontendService: static.SingleLocalHost(o.address(0)),
			primitives.HistoryService:  static.SingleLocalHost(o.address(historyPort)),
			primitives.MatchingService: static.SingleLocalHost(o.address(matchingPort)),
			primitives.WorkerService:   static.SingleLocalHost(o.address(workerPort)),
		}),
		temporal.WithLogger(logger),
		temporal.WithTLSConfigFactory(certificates),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(dynamic()),
	)
}

// dynamic lifts limits that are meant for a cluster that many share.
func dynamic() dynamicconfig.Client {
	return dynamicconfig.StaticClient{
		// 20 per shard by default, which caps a sequential workflow at 20 steps a second
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   1000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      1000,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 1000,
		dynamicconfig.OutboundProcessorMaxPollRPS.Key():   1000,
		// how long a new namespace or search attribute stays unseen; 2 s by default
		dynamicconfig.NamespaceCacheRefreshInterval.Key():                500 * time.Millisecond,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
	}
}

// configOf is the static configuration: one cluster of one process. It names
// no HTTP port, which would be one more that listens.
func configOf(o options, s store) *config.Config {
	var c config.Config
	c.Global.Membership.MaxJoinDuration = 30 * time.Second
	c.Global.Membership.BroadcastAddress = o.ip
	c.Persistence = config.Persistence{
		NumHistoryShards: shards,
		DefaultStore:     mainDatabase,
		VisibilityStore:  visibilityDatabase,
		DataStores: map[string]config.DataStore{
			mainDatabase:       {SQL: s.config(mainDatabase, 20)},
			visibilityDatabase: {SQL: s.config(visibilityDatabase, 5)},
		},
	}
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10, MasterClusterName: "active", CurrentClusterName: "active",
		ClusterInformation: map[string]cluster.ClusterInformation{"active": {
			Enabled: true, InitialFailoverVersion: 1, ClusterID: clusterID,
			RPCAddress: o.address(0),
		}},
	}
	c.DCRedirectionPolicy.Policy = "noop"
	c.Services = map[string]config.Service{
		"frontend": service(o, 0), "history": service(o, historyPort),
		"matching": service(o, matchingPort), "worker": service(o, workerPort),
	}
	c.Archival.History.State, c.Archival.Visibility.State = "disabled", "disabled"
	c.NamespaceDefaults.Archival.History.State, c.NamespaceDefaults.Archival.Visibility.State = "disabled", "disabled"
	c.PublicClient.HostPort = o.address(0)
	return &c
}

func service(o options, offset int) config.Service {
	var s config.Service
	s.RPC.BindOnIP, s.RPC.GRPCPort = o.ip, o.port+offset
	return s
}
