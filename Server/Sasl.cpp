#include "Sasl.hpp"

#include <algorithm>
#include <stdexcept>

#include "SaslMechanisms.hpp"

namespace Net::SMTP {

// ---- accounts ----

Accounts::Proofs AccountFunctions::proofs() const {
    Proofs proofs;
    proofs.password = bool(ask_.password);
    proofs.kept = ask_.keys && ask_.clear_password ? Kept::either
                  : ask_.keys                      ? Kept::keys
                  : ask_.clear_password            ? Kept::passwords
                                                   : Kept::nothing;
    proofs.token = bool(ask_.token);
    proofs.certificate = bool(ask_.certificate);
    proofs.iterations = ask_.iterations;
    proofs.salt = ask_.salt;
    return proofs;
}

bool AccountFunctions::password(const std::string& user, const std::string& password, const Channel& channel) {
    return ask_.password && ask_.password(user, password, channel);
}

std::optional<ScramKeys> AccountFunctions::keys(const std::string& user) {
    return ask_.keys ? ask_.keys(user) : std::nullopt;
}

std::optional<std::string> AccountFunctions::clear_password(const std::string& user) {
    return ask_.clear_password ? ask_.clear_password(user) : std::nullopt;
}

std::optional<std::string> AccountFunctions::token(const std::string& user, const std::string& token,
                                                   const Channel& channel) {
    return ask_.token ? ask_.token(user, token, channel) : std::nullopt;
}

std::optional<std::string> AccountFunctions::certificate(const Certificate& certificate, const std::string& user,
                                                         const Channel& channel) {
    return ask_.certificate ? ask_.certificate(certificate, user, channel) : std::nullopt;
}

bool AccountFunctions::may_be(const std::string& user, const std::string& other) {
    return ask_.may_be && ask_.may_be(user, other);
}

// ---- mechanisms ----

namespace {

using Kept = Accounts::Kept;
using Proofs = Accounts::Proofs;

// One of ours: when it is offered, and how it begins.
struct Ready {
    std::string_view name;
    bool (*offered)(const Proofs&, const Channel&);
    std::unique_ptr<AuthExchange> (*begin)(JudgePointer, const Channel&, bool plus_offered);
};

bool with_password(const Proofs& p, const Channel&) { return p.password || p.kept != Kept::nothing; }
bool with_token(const Proofs& p, const Channel&) { return p.token; }

template <auto exchange>
std::unique_ptr<AuthExchange> begin_with(JudgePointer judge, const Channel& channel, bool) {
    return exchange(std::move(judge), channel);
}

// The strongest first.
const Ready ready[] = {
    {"EXTERNAL",
     [](const Proofs& p, const Channel& c) { return p.certificate && c.tls && c.tls->peer && c.tls->peer->verified; },
     begin_with<external_exchange>},
    {"SCRAM-SHA-256-PLUS",
     [](const Proofs& p, const Channel& c) { return p.kept != Kept::nothing && !binding_type(c).empty(); },
     [](JudgePointer j, const Channel& c, bool) {
         return scram_exchange(std::move(j), c, {true, true, ""});
     }},
    {"SCRAM-SHA-256", [](const Proofs& p, const Channel&) { return p.kept != Kept::nothing; },
     [](JudgePointer j, const Channel& c, bool plus_offered) {
         return scram_exchange(std::move(j), c, {false, plus_offered, ""});
     }},
    {"CRAM-MD5", [](const Proofs& p, const Channel&) { return p.kept == Kept::passwords; },
     [](JudgePointer j, const Channel& c, bool) { return cram_md5_exchange(std::move(j), c); }},
    {"OAUTHBEARER", with_token, begin_with<oauthbearer_exchange>},
    {"XOAUTH2", with_token, begin_with<xoauth2_exchange>},
    {"PLAIN", with_password, begin_with<plain_exchange>},
    {"LOGIN", with_password, begin_with<login_exchange>},
};

const Ready* find(std::string_view name) {
    const auto* found = std::ranges::find(ready, name, &Ready::name);
    return found == std::end(ready) ? nullptr : found;
}

bool mechanism_like(std::string_view name) {
    constexpr std::size_t longest = 20;  // RFC 4422 3.1
    const auto fits = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; };
    return !name.empty() && name.size() <= longest && std::ranges::all_of(name, fits);
}

}  // namespace

struct Sasl::State {
    const Options options;
    const JudgePointer judge;

    explicit State(Options o)
        : options(std::move(o)), judge(std::make_shared<const Judge>(options.accounts, options.secret)) {
        if (!options.accounts) throw std::invalid_argument("Sasl: no accounts");
        for (const auto& name : options.without)
            if (!find(name)) throw std::invalid_argument("Sasl: no ready mechanism: " + name);
        std::vector<std::string_view> seen;
        for (const auto& own : options.own) {
            if (!mechanism_like(own.name) || !own.begin) throw std::invalid_argument("Sasl: no mechanism: " + own.name);
            if (std::ranges::count(seen, own.name)) throw std::invalid_argument("Sasl: twice: " + own.name);
            seen.push_back(own.name);
        }
    }

    const Mechanism* own(std::string_view name) const {
        const auto found = std::ranges::find(options.own, name, &Mechanism::name);
        return found == options.own.end() ? nullptr : &*found;
    }

    bool offered(const Ready& r, const Proofs& proofs, const Channel& channel) const {
        if (const auto* instead = own(r.name)) return offered(*instead, channel);
        return !std::ranges::count(options.without, r.name) && r.offered(proofs, channel);
    }
    static bool offered(const Mechanism& m, const Channel& channel) { return !m.offered || m.offered(channel); }
};

Sasl::Sasl(Options options) : state_(std::make_unique<State>(std::move(options))) {}
Sasl::Sasl(std::shared_ptr<Accounts> accounts) : Sasl(Options{std::move(accounts)}) {}
Sasl::Sasl(std::function<bool(const std::string&, const std::string&, const Channel&)> password)
    : Sasl(std::make_shared<AccountFunctions>(AccountFunctions::Functions{std::move(password)})) {}
Sasl::~Sasl() = default;

std::vector<std::string> Sasl::mechanisms(const Channel& channel) const {
    const auto proofs = state_->options.accounts->proofs();
    std::vector<std::string> names;
    for (const auto& r : ready)
        if (state_->offered(r, proofs, channel)) names.emplace_back(r.name);
    for (const auto& own : state_->options.own)
        if (!find(own.name) && State::offered(own, channel)) names.push_back(own.name);
    return names;
}

std::unique_ptr<AuthExchange> Sasl::begin(std::string_view mechanism, const Channel& channel) {
    if (const auto* own = state_->own(mechanism)) return State::offered(*own, channel) ? own->begin(channel) : nullptr;
    const auto* found = find(mechanism);
    const auto proofs = state_->options.accounts->proofs();
    if (!found || !state_->offered(*found, proofs, channel)) return nullptr;
    const bool plus_offered = state_->offered(*find("SCRAM-SHA-256-PLUS"), proofs, channel);
    return found->begin(state_->judge, channel, plus_offered);
}

bool Sasl::trusted(const std::string& user) const {
    return std::ranges::find(state_->options.trusted, user) != state_->options.trusted.end();
}

}  // namespace Net::SMTP
