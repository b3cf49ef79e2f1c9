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
	// shards is the number of history shards; it is fixed once a database is written.
	shards = 4
	// clusterID identifies the one cluster; it must not change between starts.
	clusterID = "5f0b7c1e-3a54-4b6e-9f6d-74b2a7c0e911"
)

// newServer sets up the four services of Temporal in this process. They find one
// another by static addresses, without a membership protocol.
func newServer(o options, s store, logger log.Logger) (temporal.Server, error) {
	conf := newConfig(o, s)
	if err := conf.Validate(); err != nil {
		return nil, err
	}
	certificates, err := loadTLS(o.tls)
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
		// Certificates alone decide who may connect; the authorizer and the claim mapper are Temporal's defaults.
		temporal.WithTLSConfigFactory(certificates),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(dynamicConfig()),
	)
}

// dynamicConfig raises limits that are meant for a cluster shared by many.
func dynamicConfig() dynamicconfig.Client {
	return dynamicconfig.StaticClient{
		// The default of 20 per shard caps a sequential workflow at 20 steps a second.
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   1000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      1000,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 1000,
		dynamicconfig.OutboundProcessorMaxPollRPS.Key():   1000,
		// How long a new namespace or search attribute stays unseen; the default is 2 s.
		dynamicconfig.NamespaceCacheRefreshInterval.Key():                500 * time.Millisecond,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
	}
}

// newConfig is the static configuration: one cluster of one process. It names no
// HTTP port, since that would open one more listener.
func newConfig(o options, s store) *config.Config {
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
	// The names and versions are those of Temporal's own single-cluster configuration. They are stored with every
	// namespace, so they must not change either.
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10, MasterClusterName: "active", CurrentClusterName: "active",
		ClusterInformation: map[string]cluster.ClusterInformation{"active": {
			Enabled: true, InitialFailoverVersion: 1, ClusterID: clusterID,
			RPCAddress: o.address(0),
		}},
	}
	c.DCRedirectionPolicy.Policy = "noop"
	c.Services = map[string]config.Service{
		"frontend": serviceConfig(o, 0), "history": serviceConfig(o, historyPort),
		"matching": serviceConfig(o, matchingPort), "worker": serviceConfig(o, workerPort),
	}
	// Nothing is archived: what must be kept is in trimtab's own tables.
	c.Archival.History.State, c.Archival.Visibility.State = "disabled", "disabled"
	c.NamespaceDefaults.Archival.History.State, c.NamespaceDefaults.Archival.Visibility.State = "disabled", "disabled"
	c.PublicClient.HostPort = o.address(0)
	return &c
}

// serviceConfig is the listener of one service.
func serviceConfig(o options, offset int) config.Service {
	var s config.Service
	s.RPC.BindOnIP, s.RPC.GRPCPort = o.ip, o.port+offset
	return s
}
