// SaslMechanisms -- the server's side of each mechanism, and how they ask accounts; for our own .cpp files only, it is
// not installed.
#pragma once

#include <string.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "Sasl.hpp"

namespace Net::SMTP {

// A password or token, overwritten when its scope ends.
struct Secret {
    std::string octets{};
    Secret() = default;
    explicit Secret(std::string_view from) : octets(from) {}
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret() { explicit_bzero(octets.data(), octets.size()); }
};

// Asks accounts, so that who does not exist takes the same steps and the same time as who does. Exchanges share it, and
// each keeps it for as long as it needs it. Names come prepared. What accounts throw goes through.
class Judge {
public:
    Judge(std::shared_ptr<Accounts> accounts, std::string secret);

    Accounts& accounts() const { return *accounts_; }
    // Whether the prepared password is the user's.
    bool password(const std::string& user, const std::string& password, const Channel&) const;
    // The SCRAM keys, or ones that no password has.
    ScramKeys keys(const std::string& user) const;
    // The password kept, or one that nobody knows.
    std::string clear_password(const std::string& user) const;
    // Who the user is who has asked to be `acts_as`; nullopt if it may not be.
    std::optional<std::string> identity(const std::string& user, const std::string& acts_as) const;

private:
    std::string salt(const std::string& user, std::size_t size) const;
    bool kept_password(const std::string& user, const std::string& password) const;

    std::shared_ptr<Accounts> accounts_;
    std::string secret_;
};

// An exchange that ends with the first step that is not a challenge: whatever comes later fails, and so does what is
// longer than 12,288 octets.
class SaslExchange : public AuthExchange {
public:
    SaslExchange(std::shared_ptr<const Judge> judge, const Channel& channel)
        : judge_(std::move(judge)), channel_(channel) {}
    Step step(std::optional<std::string_view> response) final;

protected:
    const Judge& judge() const { return *judge_; }
    const Channel& channel() const { return channel_; }

    static Step challenge(std::string data) { return {Step::Is::challenge, std::move(data), "", ""}; }
    static Step failure(std::string user, std::string reason) {
        return {Step::Is::failure, "", std::move(user), std::move(reason)};
    }
    // Success of a user who has proved to be it, if it may be whom it asked to be.
    Step proved(const std::string& user, const std::string& acts_as, std::string data = "") const;

private:
    virtual Step next(std::optional<std::string_view> response) = 0;

    std::shared_ptr<const Judge> judge_;
    const Channel& channel_;
    bool begun_ = false, ended_ = false;
};

using JudgePointer = std::shared_ptr<const Judge>;

// RFC 4616, and what everybody does as LOGIN (draft-murchison-sasl-login).
std::unique_ptr<AuthExchange> plain_exchange(JudgePointer, const Channel&);
std::unique_ptr<AuthExchange> login_exchange(JudgePointer, const Channel&);
// RFC 4422 A.
std::unique_ptr<AuthExchange> external_exchange(JudgePointer, const Channel&);
// RFC 2195. `random` is for its test.
std::unique_ptr<AuthExchange> cram_md5_exchange(JudgePointer, const Channel&, std::string challenge = "");
// RFC 5802, RFC 7677. `plus`: with channel binding; `plus_offered`: the client could have had it. `nonce` is for its
// test: the server's part.
struct ScramTerms {
    bool plus = false, plus_offered = false;
    std::string nonce{};
};
std::unique_ptr<AuthExchange> scram_exchange(JudgePointer, const Channel&, ScramTerms);
// RFC 7628, and Google's XOAUTH2.
std::unique_ptr<AuthExchange> oauthbearer_exchange(JudgePointer, const Channel&);
std::unique_ptr<AuthExchange> xoauth2_exchange(JudgePointer, const Channel&);

// The channel binding type that the channel has, and the mechanisms prefer: "" for none.
std::string binding_type(const Channel&);

}  // namespace Net::SMTP
