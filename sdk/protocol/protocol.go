// Package protocol holds what a host and a plugin must agree on before the first call: the handshake, the names of the
// environment variables, the descriptor that tells a plugin its host is gone, and limits. Both sides import it.
package protocol

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// Version is the version of the contract: the proto package gnomon.plugin.v1, and `protocol: 1` in plugin.yaml.
const Version = 1

// SetName is the one name in go-plugin's plugin set; a host dispenses it.
const SetName = "gnomon"

// Handshake is go-plugin's handshake. The cookie is no secret: it lets a plugin tell a person who starts it by hand that
// it is a plugin.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  Version,
	MagicCookieKey:   "GNOMON_PLUGIN",
	MagicCookieValue: "gnomon.plugin.v1",
}

// What the host sets in a plugin's otherwise empty environment, beside go-plugin's own variables.
const (
	// EnvHostVersion is Gnomon's version.
	EnvHostVersion = "GNOMON_PLUGIN_HOST_VERSION"
	// EnvNamespace is the namespace the process serves; empty: several.
	EnvNamespace = "GNOMON_PLUGIN_NAMESPACE"
	// EnvHostGoneFD is the number of the descriptor whose end of file means that the host is gone; empty: there is none.
	EnvHostGoneFD = "GNOMON_PLUGIN_HOST_GONE_FD"
)

// HostGoneFD is the descriptor a host hands down as the read end of a pipe it never writes to: the first of
// exec.Cmd.ExtraFiles. EnvHostGoneFD names it.
const HostGoneFD = 3

// Limits both sides keep.
const (
	// MaxMessageBytes is the largest gRPC message either side accepts.
	MaxMessageBytes = 16 << 20
	// MaxLineBytes is where the SDK cuts the message of a log line.
	MaxLineBytes = 1 << 20
	// MaxCheckpointBytes is the largest checkpoint.
	MaxCheckpointBytes = 1 << 20
	// MaxOutputBytes is the largest output.
	MaxOutputBytes = 1 << 20
	// MaxFailureBytes is the longest message of a failure.
	MaxFailureBytes = 4 << 10
)

// AttrCutBytes is the attribute of a log line that was cut: how many bytes are missing.
const AttrCutBytes = "gnomon.cut_bytes"

// Silence is the logger to give go-plugin where its own chatter is not wanted.
func Silence() hclog.Logger { return hclog.NewNullLogger() }

// Plugins is the plugin set for go-plugin. A plugin gives what it serves; a host gives nil, and Dispense(SetName) answers
// with a pluginv1.PluginServiceClient.
func Plugins(server pluginv1.PluginServiceServer) plugin.PluginSet {
	return plugin.PluginSet{SetName: &grpcPlugin{server: server}}
}

type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server pluginv1.PluginServiceServer
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterPluginServiceServer(s, p.server)
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pluginv1.NewPluginServiceClient(conn), nil
}

// streamWindowBytes bounds what one attempt may have on its way unread; fixed windows also spare gRPC's bandwidth probes.
const (
	streamWindowBytes     = 256 << 10
	connectionWindowBytes = 8 << 20
)

// DialOptions are the gRPC options a host gives to go-plugin's client: message limit and fixed windows.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connectionWindowBytes),
	}
}

// ServerOptions are the gRPC options a plugin's server uses.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.InitialWindowSize(streamWindowBytes),
		grpc.InitialConnWindowSize(connectionWindowBytes),
	}
}
