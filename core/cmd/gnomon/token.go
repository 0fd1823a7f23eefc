package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// roles is the names of all roles.
func roles() []string {
	var names []string
	for _, r := range access.Roles() {
		names = append(names, string(r))
	}
	return names
}

// tokens is package access as the API wants it.
type tokens struct{ *access.Access }

// Tokens lists the tokens that are not revoked.
func (t tokens) Tokens(ctx context.Context) ([]api.Token, error) {
	held, err := t.Access.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]api.Token, len(held))
	for i, h := range held {
		list[i] = api.Token{ID: h.ID, Principal: h.Principal.Name, Grants: make(map[string]string), Purpose: h.Purpose}
		for namespace, role := range h.Principal.Grants {
			list[i].Grants[namespace] = string(role)
		}
		if !h.CreatedAt.IsZero() {
			list[i].CreatedAt = &api.Time{Time: h.CreatedAt}
		}
		if !h.ExpiresAt.IsZero() {
			list[i].ExpiresAt = &api.Time{Time: h.ExpiresAt}
		}
	}
	return list, nil
}

// IssueToken makes a token.
func (t tokens) IssueToken(ctx context.Context, principal string, grants map[string]string, purpose string, expires time.Time) (api.NewToken, error) {
	p := access.Principal{Name: principal, Grants: make(map[string]access.Role)}
	for namespace, role := range grants {
		p.Grants[namespace] = access.Role(role)
	}
	secret, err := t.Issue(ctx, p, purpose, expires)
	if err != nil {
		return api.NewToken{}, err
	}
	id := access.TokenID(secret)
	all, err := t.Tokens(ctx)
	if err != nil {
		return api.NewToken{}, err
	}
	i := slices.IndexFunc(all, func(one api.Token) bool { return one.ID == id })
	if i < 0 {
		return api.NewToken{}, errors.New("the token was revoked while it was made")
	}
	return api.NewToken{Token: all[i], Value: secret.Reveal()}, nil
}

// RevokeToken makes a token worthless.
func (t tokens) RevokeToken(ctx context.Context, id string) error { return t.Revoke(ctx, id) }

func newTokenCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Tokens: who may do what in which namespace"}
	s.flags(cmd)

	var grants map[string]string
	var expires, purpose string
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a token for a person or a program; its value is shown this once", Args: cobra.ExactArgs(1),
		Long: "Make a token. NAME is whose it is and stands in the audit. Each --grant gives a role (" + strings.Join(roles(), ", ") + ")\n" +
			"in a namespace; * stands for all. An analyst asks history by SQL and sees the rows of its namespaces.",
		Example: "  gnomon token create li --grant Common=analyst --grant Telemedicine=analyst --expires 720h\n" +
			"  gnomon token create grafana --grant '*=analyst' --purpose dashboards",
		RunE: func(cmd *cobra.Command, args []string) error {
			var made api.NewToken
			body := api.TokenInput{Principal: args[0], Grants: grants, Purpose: purpose, ExpiresIn: expires}
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/tokens", body: body}, &made)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				_, _ = fmt.Fprintln(s.err, s.say("令牌只显示这一次，请妥善保存；编号 ", "the token is shown this once; keep it safe. Its id is ")+made.ID)
				_, err := fmt.Fprintln(s.out, made.Value)
				return err
			})
		},
	}
	create.Flags().StringToStringVar(&grants, "grant", nil, "Namespace=role, again for each namespace")
	create.Flags().StringVar(&expires, "expires", "", "how long it works, like 720h (default: until it is revoked)")
	create.Flags().StringVar(&purpose, "purpose", "", "what it is for")
	_ = create.MarkFlagRequired("grant")
	s.outputFlag(create, "table", "json", "yaml")

	list := &cobra.Command{
		Use: "list", Short: "List tokens, without their values", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := s.list(cmd.Context(), "/v1/tokens", nil, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.Token](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, t := range all {
					var granted []string
					for namespace, role := range t.Grants {
						granted = append(granted, namespace+"="+role)
					}
					slices.Sort(granted)
					until := s.say("永久", "never")
					if t.ExpiresAt != nil {
						until = t.ExpiresAt.UTC().Format(time.DateTime)
					}
					rows = append(rows, []string{t.ID, t.Principal, strings.Join(granted, " "), until, t.Purpose})
				}
				return s.table([]string{"ID", s.say("所有者", "PRINCIPAL"), s.say("授权", "GRANTS"), s.say("失效时间(UTC)", "EXPIRES(UTC)"), s.say("用途", "PURPOSE")}, rows)
			})
		},
	}
	s.outputFlag(list, "table", "json", "yaml")

	revoke := &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token: it opens nothing from now on", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := s.call(cmd.Context(), request{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(args[0])}, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.out, s.say("已吊销令牌 ", "revoked token ")+args[0])
			return err
		},
	}
	cmd.AddCommand(create, list, revoke)
	return cmd
}
