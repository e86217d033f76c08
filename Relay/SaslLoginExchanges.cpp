#include "SaslLoginExchanges.hpp"

#include <algorithm>
#include <utility>

#include "../Server/Base64.hpp"
#include "../Server/Gsasl.hpp"
#include "../Server/SaslCrypto.hpp"
#include "../Server/SaslMechanisms.hpp"
#include "../Server/SaslScram.hpp"

namespace Net::SMTP {

namespace {

using Challenge = std::optional<std::string_view>;
using Response = std::optional<std::string>;

constexpr std::size_t longest_challenge = 12'288;
constexpr unsigned least_iterations = 4096;      // RFC 7677 4: fewer make a password that was overheard easy to guess
constexpr unsigned most_iterations = 1'000'000;  // more is a server that wants to keep us busy
constexpr char separator = '\x01';

// Gives up for good at the first challenge that makes no sense.
class Exchange : public LoginExchange {
public:
    explicit Exchange(std::string_view mechanism) : mechanism_(mechanism) {}
    std::string mechanism() const final { return mechanism_; }
    Response step(Challenge challenge) final {
        if (over_ || (challenge && challenge->size() > longest_challenge)) return give_up();
        auto response = next(challenge);
        // Where the server speaks first there is no initial response.
        return response || !challenge ? response : give_up();
    }
    bool complete() const final { return !over_ && proved(); }

protected:
    virtual Response next(Challenge challenge) = 0;
    virtual bool proved() const = 0;

private:
    Response give_up() {
        over_ = true;
        return std::nullopt;
    }

    const std::string mechanism_;
    bool over_ = false;
};

// Says one thing, as the initial response or when the server asks for it by an empty challenge: PLAIN, EXTERNAL and,
// with an answer to the challenge that tells an error, the bearer mechanisms.
class OneMessage : public Exchange {
public:
    OneMessage(std::string_view mechanism, std::string_view message, Response after_error = {})
        : Exchange(mechanism), message_(message), after_error_(std::move(after_error)) {}

private:
    Response next(Challenge challenge) override {
        if (said_) {
            const bool first_error = !std::exchange(failed_, true);
            return first_error && challenge ? after_error_ : std::nullopt;
        }
        if (challenge && !challenge->empty()) return std::nullopt;
        said_ = true;
        return message_.octets;
    }
    bool proved() const override { return said_ && !failed_; }

    const Secret message_;
    const Response after_error_;
    bool said_ = false, failed_ = false;
};

// The prompts mean nothing: the name is first, then the password.
class LoginLogin : public Exchange {
public:
    LoginLogin(std::string_view mechanism, std::string_view user, std::string_view password)
        : Exchange(mechanism), user_(user), password_(password) {}

private:
    Response next(Challenge challenge) override {
        if (!challenge) return std::nullopt;
        switch (++said_) {
            case 1: return user_;
            case 2: return password_.octets;
            default: return std::nullopt;
        }
    }
    bool proved() const override { return said_ == 2; }

    const std::string user_;
    const Secret password_;
    int said_ = 0;
};

class CramLogin : public Exchange {
public:
    CramLogin(std::string_view mechanism, std::string_view user, std::string_view password)
        : Exchange(mechanism), user_(user), password_(password) {}

private:
    // RFC 2195 2.
    Response next(Challenge challenge) override {
        if (!challenge || challenge->empty() || said_) return std::nullopt;
        said_ = true;
        return user_ + ' ' + hexadecimal(hmac_md5(password_.octets, *challenge));
    }
    bool proved() const override { return said_; }

    const std::string user_;
    const Secret password_;
    bool said_ = false;
};

class ScramLogin : public Exchange {
public:
    ScramLogin(std::string_view mechanism, const LoginTerms& terms, std::string_view user, std::string_view password)
        : Exchange(mechanism), nonce_(terms.nonce.empty() ? Scram::new_nonce() : terms.nonce), password_(password) {
        header_ = !terms.binding.empty() ? "p=" + terms.binding : terms.could_bind ? "y" : "n";
        header_ += ',';
        if (const auto& other = terms.options.acts_as; !other.empty()) header_ += "a=" + Scram::escape(other);
        header_ += ',';
        bound_ = header_ + (terms.binding.empty() ? "" : terms.channel.binding(terms.binding));
        first_bare_ = "n=" + Scram::escape(user) + ",r=" + nonce_;
    }

private:
    Response next(Challenge challenge) override {
        switch (said_) {
            case 0: return first(challenge);
            case 1: return challenge ? final(*challenge) : std::nullopt;
            case 2: return challenge ? verify(*challenge) : std::nullopt;
            default: return std::nullopt;
        }
    }
    bool proved() const override { return proved_; }

    Response first(Challenge challenge) {
        if (challenge && !challenge->empty()) return std::nullopt;
        said_ = 1;
        return header_ + first_bare_;
    }

    Response final(std::string_view challenge) {
        auto server = Scram::read_server_first(challenge);
        if (!server || !server->nonce.starts_with(nonce_) || server->nonce == nonce_) return std::nullopt;
        if (server->iterations < least_iterations || server->iterations > most_iterations) return std::nullopt;
        const auto salted = pbkdf2_sha256(password_.octets, server->salt, server->iterations);
        const auto keys = keys_of(salted, server->iterations, server->salt);
        const auto without_proof = "c=" + base64_encode(bound_) + ",r=" + server->nonce;
        const auto dialogue = Scram::dialogue(first_bare_, challenge, without_proof);
        signature_ = Scram::signature(keys, dialogue);
        said_ = 2;
        return without_proof + ",p=" + base64_encode(Scram::proof(client_key(salted), keys.stored_key, dialogue));
    }

    // RFC 5802 7: server-final-message = "v=" signature or "e=" error, and extensions.
    Response verify(std::string_view challenge) {
        said_ = 3;
        std::string signature;
        if (!challenge.starts_with("v=")) return std::nullopt;
        challenge = challenge.substr(2, challenge.find(',') - 2);
        if (!base64_decode(challenge, signature) || !same_octets(signature, signature_)) return std::nullopt;
        proved_ = true;
        return "";
    }

    const std::string nonce_;
    const Secret password_;
    std::string header_, bound_, first_bare_, signature_;
    int said_ = 0;
    bool proved_ = false;
};

// RFC 7628 3.1. What is true of the connection may be told to a server that wants to know.
std::string oauthbearer(const LoginTerms& terms, const std::string& token) {
    const auto& o = terms.options;
    std::string text = "n,a=" + Scram::escape(o.acts_as.empty() ? o.user : o.acts_as) + "," + separator;
    const auto& host = terms.channel.hostname;
    if (!host.empty() && std::ranges::all_of(host, [](char c) { return c > ' ' && c <= '~'; }))
        text += "host=" + host + separator;
    if (terms.channel.peer.port) text += "port=" + std::to_string(terms.channel.peer.port) + separator;
    return text + "auth=Bearer " + token + separator + separator;
}

std::string xoauth2(const LoginTerms& terms, const std::string& token) {
    return "user=" + terms.options.user + separator + "auth=Bearer " + token + separator + separator;
}

std::string plain(const SaslLogin::Options& o) {
    constexpr char nul = '\0';
    return o.acts_as + nul + o.user + nul + o.password;
}

// "" for none, or one that can't be: the program has been asked, and its exception is for nobody else.
std::string token_of(const SaslLogin::Options& o) {
    constexpr std::size_t longest = 8192;
    try {
        auto token = o.token();
        const auto fits = [](char c) { return c > ' ' && c <= '~'; };
        return token.size() <= longest && std::ranges::all_of(token, fits) ? token : "";
    } catch (...) {
        return "";
    }
}

std::unique_ptr<LoginExchange> bearer_login(std::string_view mechanism, const LoginTerms& terms, std::string& why) {
    Secret token;
    token.octets = token_of(terms.options);
    if (token.octets.empty()) {
        why = "There is no token for " + std::string(mechanism) + " now";
        return nullptr;
    }
    const bool newer = mechanism == "OAUTHBEARER";
    Secret message;
    message.octets = newer ? oauthbearer(terms, token.octets) : xoauth2(terms, token.octets);
    // To the challenge that says what is wrong (RFC 7628 3.2.3); then the server says no.
    return std::make_unique<OneMessage>(mechanism, message.octets, newer ? std::string(1, separator) : std::string());
}

}  // namespace

std::unique_ptr<LoginExchange> begin_login(std::string_view mechanism, const LoginTerms& terms, std::string& why) {
    const auto& o = terms.options;
    if (mechanism == "EXTERNAL") return std::make_unique<OneMessage>(mechanism, o.acts_as.empty() ? o.user : o.acts_as);
    if (mechanism == "OAUTHBEARER" || mechanism == "XOAUTH2") return bearer_login(mechanism, terms, why);
    if (mechanism == "PLAIN") {
        Secret message;
        message.octets = plain(o);
        return std::make_unique<OneMessage>(mechanism, message.octets);
    }
    if (mechanism == "LOGIN") return std::make_unique<LoginLogin>(mechanism, o.user, o.password);
    const auto user = saslprep(o.user), password = saslprep(o.password);
    if (!user || !password) return nullptr;  // which no SaslLogin has
    if (mechanism == "CRAM-MD5") return std::make_unique<CramLogin>(mechanism, *user, *password);
    return std::make_unique<ScramLogin>(mechanism, terms, *user, *password);
}

}  // namespace Net::SMTP
