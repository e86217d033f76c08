// Sasl -- the ready mechanisms by which clients prove who they are, and what they need to know of a program's accounts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "Auth.hpp"

namespace Net::SMTP {

// What SCRAM-SHA-256 keeps in place of a password (RFC 5803, RFC 7677): it proves one, but does not tell it. Octets.
struct ScramKeys {
    unsigned iterations = 0;                 // at least 1; RFC 7677 wants 4096
    std::string salt{};                      // at least one octet
    std::string stored_key{}, server_key{};  // 32 octets each

    // "{SCRAM-SHA-256}iterations$salt:StoredKey:ServerKey" in base64, for files and databases; and back. nullopt for
    // any other text, and for more iterations than that.
    static constexpr std::string_view scheme = "{SCRAM-SHA-256}";
    static constexpr unsigned most_iterations = 1'000'000;
    std::string str() const;
    static std::optional<ScramKeys> parse(std::string_view text);
};

// The keys of a password. It takes 0.3 ms for each 1000 iterations and more. Without a salt one of 16 random octets.
// std::invalid_argument for a password that SASLprep (RFC 4013) prohibits, for one that is empty, and for no
// iterations.
ScramKeys scram_keys(std::string_view password, unsigned iterations = 4096, std::string salt = {});

// Who exists, and what proves it. A program derives it, or makes one of functions: AccountFunctions; AuthFile is ready.
// Names and passwords come as SASLprep (RFC 4013) writes them, without NUL and never empty, unless it says otherwise.
// "No" is false or nullopt; who can't tell now throws: the client hears 454, the program an Event::Trouble.
// Any number of threads may ask at once.
class Accounts {
public:
    // Of what an account is kept, for Sasl to check itself.
    enum class Kept {
        nothing,    // keys() and clear_password() are not asked
        keys,       // SCRAM keys of every account
        passwords,  // the password itself of every account
        either,     // the one or the other
    };
    // What these accounts can be asked for decides what is offered. It may change while a server runs.
    struct Proofs {
        bool password = false;      // password(): PLAIN, LOGIN
        Kept kept = Kept::nothing;  // SCRAM-SHA-256, -PLUS; PLAIN, LOGIN too; `passwords` CRAM-MD5 too
        bool token = false;         // token(): OAUTHBEARER, XOAUTH2
        bool certificate = false;   // certificate(): EXTERNAL
        // What most of the keys have, so that a user who does not exist looks like one who does; kept passwords are
        // used with so many iterations.
        unsigned iterations = 4096;
        std::size_t salt = 16;  // octets, at most 32
    };
    virtual ~Accounts() = default;
    virtual Proofs proofs() const = 0;

    // Whether it is the user's password.
    virtual bool password(const std::string& /*user*/, const std::string& /*password*/, const Channel&) {
        return false;
    }
    virtual std::optional<ScramKeys> keys(const std::string& /*user*/) { return std::nullopt; }
    // The password, of an account that keeps it.
    virtual std::optional<std::string> clear_password(const std::string& /*user*/) { return std::nullopt; }
    // Whose the bearer token is (RFC 6750). `user` is whom the client wants to be; "" leaves it to the token.
    virtual std::optional<std::string> token(const std::string& /*user*/, const std::string& /*token*/,
                                             const Channel&) {
        return std::nullopt;
    }
    // Whose the certificate is, which is verified. `user` is whom the client wants to be; "" leaves it to the
    // certificate.
    virtual std::optional<std::string> certificate(const Certificate&, const std::string& /*user*/, const Channel&) {
        return std::nullopt;
    }
    // Whether the user, who has proved to be it, may be `other` (the authorization identity, RFC 4422 3.4.1), another
    // name than its own.
    virtual bool may_be(const std::string& /*user*/, const std::string& /*other*/) { return false; }

protected:
    Accounts() = default;
    Accounts(const Accounts&) = default;
    Accounts& operator=(const Accounts&) = default;
};

// Accounts made of functions; those that are set are what is offered.
class AccountFunctions : public Accounts {
public:
    struct Functions {
        std::function<bool(const std::string& user, const std::string& password, const Channel&)> password{};
        std::function<std::optional<ScramKeys>(const std::string& user)> keys{};
        std::function<std::optional<std::string>(const std::string& user)> clear_password{};
        std::function<std::optional<std::string>(const std::string& user, const std::string& token, const Channel&)>
            token{};
        std::function<std::optional<std::string>(const Certificate&, const std::string& user, const Channel&)>
            certificate{};
        std::function<bool(const std::string& user, const std::string& other)> may_be{};
        unsigned iterations = 4096;  // see Proofs
        std::size_t salt = 16;
    };
    // With both `keys` and `clear_password` some accounts may have the one, some the other (Kept::either).
    explicit AccountFunctions(Functions functions) : ask_(std::move(functions)) {}

    Proofs proofs() const override;
    bool password(const std::string& user, const std::string& password, const Channel&) override;
    std::optional<ScramKeys> keys(const std::string& user) override;
    std::optional<std::string> clear_password(const std::string& user) override;
    std::optional<std::string> token(const std::string& user, const std::string& token, const Channel&) override;
    std::optional<std::string> certificate(const Certificate&, const std::string& user, const Channel&) override;
    bool may_be(const std::string& user, const std::string& other) override;

private:
    const Functions ask_;
};

// EXTERNAL, SCRAM-SHA-256-PLUS, SCRAM-SHA-256, CRAM-MD5, OAUTHBEARER, XOAUTH2, PLAIN, LOGIN: of these, in this order,
// what the accounts can be asked for and the connection allows; then the program's own. EXTERNAL wants a verified
// certificate of the client, -PLUS channel binding (RFC 5929, RFC 9266). Whether anything is offered in the clear is
// not decided here but by Options::clear_auth. A user who does not exist takes the same steps, with the same salt each
// time, and fails as a wrong password does. Any number of threads may use it at once; accounts are asked, and passwords
// hashed, with no lock held.
class Sasl : public Authenticator {
public:
    // A mechanism of the program's own.
    struct Mechanism {
        std::string name;  // see Authenticator::mechanisms()
        // Begins an exchange, which must not be null. The channel lives longer.
        std::function<std::unique_ptr<AuthExchange>(const Channel&)> begin;
        // Whether it is offered on such a connection; unset: on all.
        std::function<bool(const Channel&)> offered{};
    };
    struct Options {
        std::shared_ptr<Accounts> accounts;
        std::vector<std::string> without{};  // ready mechanisms not to offer, by name: {"CRAM-MD5"}
        std::vector<Mechanism> own{};        // one with the name of a ready mechanism takes its place
        std::vector<std::string> trusted{};  // see Authenticator::trusted()
        // What the salts of kept passwords, and of users who do not exist, are made with. Keep it as a password is
        // kept, so that these salts survive a restart, and are the same in all processes. Empty: a new one for each
        // object.
        std::string secret{};
    };
    // std::invalid_argument without accounts, for a name in `without` that is no ready mechanism's, and for an own
    // mechanism without begin(), with a name that can't be one, or with one that is there twice.
    explicit Sasl(Options options);
    explicit Sasl(std::shared_ptr<Accounts> accounts);
    // PLAIN and LOGIN by a function: Sasl([](auto& user, auto& password, auto&) { return ...; }).
    explicit Sasl(std::function<bool(const std::string& user, const std::string& password, const Channel&)> password);

    ~Sasl() override;
    Sasl(const Sasl&) = delete;
    Sasl& operator=(const Sasl&) = delete;

    std::vector<std::string> mechanisms(const Channel&) const override;
    std::unique_ptr<AuthExchange> begin(std::string_view mechanism, const Channel&) override;
    bool trusted(const std::string& user) const override;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP
