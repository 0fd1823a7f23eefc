package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Token is a token that opens something, without its value.
type Token struct {
	ID        string            `json:"id" doc:"Names the token; the beginning of its hash" example:"9f86d081884c7d65"`
	Principal string            `json:"principal" doc:"Whose it is; the name in the audit" example:"li"`
	Grants    map[string]string `json:"grants" doc:"Role by namespace; the namespace * stands for all"`
	Purpose   string            `json:"purpose" doc:"What its owner wrote; bootstrap: the one of the first start"`
	CreatedAt *Time             `json:"created_at,omitempty" doc:"When it was made"`
	ExpiresAt *Time             `json:"expires_at,omitempty" doc:"When it stops working; absent: never"`
}

// TokenInput is what can be said about a new token.
type TokenInput struct {
	Principal string            `json:"principal" minLength:"1" maxLength:"128" doc:"Whose it is; the name in the audit" example:"li"`
	Grants    map[string]string `json:"grants" doc:"Role (admin, editor, operator, analyst, viewer) by namespace; the namespace * stands for all, those of tomorrow included" example:"{\"Common\":\"analyst\"}"`
	Purpose   string            `json:"purpose,omitempty" maxLength:"1024" doc:"What it is for" example:"Grafana"`
	ExpiresIn string            `json:"expires_in,omitempty" doc:"How long it works; absent: until it is revoked" example:"720h"`
}

// NewToken is a token that was just made.
type NewToken struct {
	Token
	Value string `json:"value" doc:"The token itself. It is shown this once and kept nowhere" example:"gnomon_…"`
}

// Tokens makes and revokes tokens: package access.
type Tokens interface {
	Tokens(ctx context.Context) ([]Token, error)
	// IssueToken makes a token; expires may be zero: never. It fails with KindInvalid for a role that does not exist.
	IssueToken(ctx context.Context, principal string, grants map[string]string, purpose string, expires time.Time) (NewToken, error)
	// RevokeToken fails with KindNotFound if there is none with the id.
	RevokeToken(ctx context.Context, id string) error
}

type newToken struct {
	Body NewToken
}

func (a *API) tokens() {
	register(a, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/v1/tokens", Tags: []string{"tokens"},
		Summary: "List the tokens that are not revoked, without their values",
	}, rule{permission: "token:manage", source: fromServer},
		func(ctx context.Context, _ *struct{}) (*listed[Token], error) {
			all, err := a.opts.Tokens.Tokens(ctx)
			if err != nil {
				return nil, err
			}
			return list(all), nil
		})
	register(a, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/v1/tokens", Tags: []string{"tokens"}, DefaultStatus: http.StatusCreated,
		Summary: "Make a token for a principal; its value is shown this once",
	}, rule{permission: "token:manage", source: fromServer, changes: true},
		func(ctx context.Context, in *struct{ Body TokenInput }) (*newToken, error) {
			var findings []core.Finding
			expires := a.expiry(in.Body.ExpiresIn, &findings)
			if err := a.checkGrants(ctx, in.Body.Grants, &findings); err != nil {
				return nil, err
			}
			if len(findings) > 0 {
				return nil, core.Invalid("create a token", findings...)
			}
			made, err := a.opts.Tokens.IssueToken(ctx, in.Body.Principal, in.Body.Grants, in.Body.Purpose, expires)
			if err != nil {
				return nil, err
			}
			return &newToken{made}, nil
		})
	register(a, huma.Operation{
		OperationID: "revoke-token", Method: http.MethodDelete, Path: "/v1/tokens/{token_id}", Tags: []string{"tokens"},
		Summary: "Revoke a token: it opens nothing from now on",
	}, rule{permission: "token:manage", source: fromServer, changes: true},
		func(ctx context.Context, in *struct {
			ID string `path:"token_id" doc:"Id of the token, as listed" maxLength:"64"`
		}) (*struct{}, error) {
			return nil, a.opts.Tokens.RevokeToken(ctx, in.ID)
		})
}

// maxExpiry is a hundred years.
const maxExpiry = 876_000 * time.Hour

// expiry gives when a token that works for a while stops; zero: never.
func (a *API) expiry(in string, findings *[]core.Finding) time.Time {
	works := span(in, "expires_in", findings)
	switch {
	case works < 0:
		*findings = append(*findings, core.Finding{Path: "expires_in", Message: core.Text{Zh: "有效期必须为正，例如 720h", En: "the time it works must be positive, like 720h"}})
	case works > maxExpiry:
		*findings = append(*findings, core.Finding{Path: "expires_in", Message: core.Text{
			Zh: "有效期最长 " + duration(maxExpiry) + "；不写就一直有效", En: "the time it works is at most " + duration(maxExpiry) + "; leave it out to have it work for good"}})
	case works > 0:
		return a.opts.Clock.Now().UTC().Add(works)
	}
	return time.Time{}
}

// checkGrants finds roles and namespaces that do not exist: a token with a slip of the pen would open nothing, and nobody
// would know why.
func (a *API) checkGrants(ctx context.Context, grants map[string]string, findings *[]core.Finding) error {
	if len(grants) == 0 {
		*findings = append(*findings, core.Finding{Path: "grants", Message: core.Text{Zh: "至少要授予一个命名空间的角色", En: "a role in at least one namespace is needed"}})
	}
	known, err := a.opts.Definitions.Namespaces(ctx)
	if err != nil {
		return err
	}
	for namespace, role := range grants {
		if namespace != everywhere && !slices.ContainsFunc(known, func(n core.Namespace) bool { return n.Name == namespace }) {
			*findings = append(*findings, core.Finding{Path: "grants." + namespace, Message: core.Text{
				Zh: "没有命名空间 " + namespace + "；请先创建，或写 * 表示全部", En: "there is no namespace " + namespace + "; create it first, or write * for all"}})
		}
		if !slices.Contains(a.opts.Roles, role) {
			*findings = append(*findings, core.Finding{Path: "grants." + namespace, Message: core.Text{
				Zh: "没有角色 " + role + "；可用的角色：" + strings.Join(a.opts.Roles, "、"), En: "there is no role " + role + "; the roles are " + strings.Join(a.opts.Roles, ", ")}})
		}
	}
	return nil
}
