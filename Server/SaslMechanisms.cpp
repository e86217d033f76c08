#include "SaslMechanisms.hpp"

#include <algorithm>
#include <stdexcept>

#include "Base64.hpp"
#include "Gsasl.hpp"
#include "SaslCrypto.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t longest_message = 12'288;
constexpr std::size_t key_size = 32;
constexpr unsigned most_iterations = 10'000'000;

using Kept = Accounts::Kept;

void check(const ScramKeys& keys) {
    if (keys.iterations && keys.iterations <= most_iterations && !keys.salt.empty() &&
        keys.stored_key.size() == key_size && keys.server_key.size() == key_size)
        return;
    throw std::runtime_error("The SCRAM keys of an account are not valid");
}

}  // namespace

// ---- asking accounts ----

Judge::Judge(std::shared_ptr<Accounts> accounts, std::string secret)
    : accounts_(std::move(accounts)), secret_(secret.empty() ? random_octets(key_size) : std::move(secret)) {}

std::string Judge::salt(const std::string& user, std::size_t size) const {
    return hmac_sha256(secret_, "salt " + user).substr(0, std::clamp<std::size_t>(size, 1, key_size));
}

ScramKeys Judge::keys(const std::string& user) const {
    const auto proofs = accounts_->proofs();
    if (proofs.kept != Kept::passwords)
        if (auto keys = accounts_->keys(user)) {
            check(*keys);
            // Of accounts that keep one or the other nobody is to see which.
            if (proofs.kept == Kept::either) scram_keys("-", proofs.iterations, keys->salt);
            return *keys;
        }
    if (proofs.kept != Kept::keys) return scram_keys(clear_password(user), proofs.iterations, salt(user, proofs.salt));
    return {proofs.iterations, salt(user, proofs.salt), hmac_sha256(secret_, "stored " + user),
            hmac_sha256(secret_, "server " + user)};
}

std::string Judge::clear_password(const std::string& user) const {
    auto kept = accounts_->clear_password(user);
    auto prepared = saslprep(kept ? *kept : std::string());
    return prepared ? *prepared : base64_encode(hmac_sha256(secret_, "nobody " + user));
}

bool Judge::kept_password(const std::string& user, const std::string& password) const {
    const auto known = keys(user);
    const auto salted = pbkdf2_sha256(password, known.salt, known.iterations);
    return same_octets(sha256(client_key(salted)), known.stored_key);
}

bool Judge::password(const std::string& user, const std::string& password, const Channel& channel) const {
    const auto proofs = accounts_->proofs();
    if (proofs.password) return accounts_->password(user, password, channel);
    if (proofs.kept == Kept::nothing) return false;
    if (proofs.kept != Kept::passwords) return kept_password(user, password);
    return same_octets(hmac_sha256(secret_, clear_password(user)), hmac_sha256(secret_, password));
}

std::optional<std::string> Judge::identity(const std::string& user, const std::string& acts_as) const {
    if (acts_as.empty()) return user;
    auto other = saslprep(acts_as);
    if (!other || (*other != user && !accounts_->may_be(user, *other))) return std::nullopt;
    return other;
}

// ---- an exchange ----

AuthExchange::Step SaslExchange::step(std::optional<std::string_view> response) {
    if (ended_ || (begun_ && !response)) return failure("", "out of turn");
    begun_ = ended_ = true;  // also when an account throws
    if (response && response->size() > longest_message) return failure("", "too long");
    auto step = next(response);
    ended_ = step.is != Step::Is::challenge;
    return step;
}

AuthExchange::Step SaslExchange::proved(const std::string& user, const std::string& acts_as, std::string data) const {
    auto who = judge_->identity(user, acts_as);
    if (!who) return failure(user, "may not be whom it asks to be");
    return {Step::Is::success, std::move(data), *who, "", *who == user ? "" : user};
}

std::string binding_type(const Channel& channel) {
    if (!channel.tls || !channel.binding) return "";
    for (const char* type : {"tls-exporter", "tls-unique"})
        if (!channel.binding(type).empty()) return type;
    return "";
}

}  // namespace Net::SMTP
