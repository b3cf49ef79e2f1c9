// Package client stands in the place of the one that lets Temporal's server
// rent computers for workers: it has none to describe and refuses to rent any.
package client

import (
	"context"

	"go.temporal.io/api/deployment/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/auto-scaled-workers/wci/workflow/iface"
	"go.temporal.io/server/common/namespace"
	"go.uber.org/fx"
)

// Module provides a Client.
var Module = fx.Provide(func() Client { return Client{} })

// Client rents nothing.
type Client struct{}

// DescribeWorkerControllerInstance finds nothing.
func (Client) DescribeWorkerControllerInstance(context.Context, *namespace.Namespace,
	*deployment.WorkerDeploymentVersion) (
	*iface.QueryDescribeWorkerControllerInstanceResponse, []byte, error) {
	return nil, nil, serviceerror.NewNotFound("no compute is configured")
}

// UpdateWorkerControllerInstance refuses.
func (Client) UpdateWorkerControllerInstance(context.Context, *namespace.Namespace, *deployment.WorkerDeploymentVersion,
	[]byte, string,
	map[string]iface.ScalingGroupSpecUpdate, []string) (*iface.UpdateWorkerControllerInstanceResponse, error) {
	return nil, errLeftOut()
}

// ValidateWorkerControllerInstanceSpec refuses.
func (Client) ValidateWorkerControllerInstanceSpec(context.Context, *namespace.Namespace,
	*deployment.WorkerDeploymentVersion, string,
	map[string]iface.ScalingGroupSpecUpdate, []string) error {
	return errLeftOut()
}

// DeleteWorkerControllerInstance has nothing to delete.
func (Client) DeleteWorkerControllerInstance(context.Context, *namespace.Namespace, *deployment.WorkerDeploymentVersion,
	string) error {
	return serviceerror.NewNotFound("no compute is configured")
}

func errLeftOut() error {
	return serviceerror.NewUnimplemented("providers of compute are left out of trimtab-temporal: start workers " +
		"yourself")
}
